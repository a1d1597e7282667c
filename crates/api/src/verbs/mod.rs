//! What can be done with resources: one function for each verb, none for any kind.

mod create;
mod delete;
mod delete_collection;
mod get;
mod list;
mod patch;
mod update;
mod watch;
mod write;

use http::{Method, Response};

pub(crate) use delete::{delete_one, settle};
pub(crate) use list::{Found, glue};
pub(crate) use patch::patched;
pub(crate) use update::{edit, other_uid};
pub(crate) use write::{judge_fields, wanted_revision};

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::request::{Query, Target};
use crate::subresources;

/// What a request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb of a request, if the path has it at all.
    pub(crate) fn of(method: &Method, target: &Target, query: &Query) -> Result<Self, Refusal> {
        if !is_served(target) {
            return Err(Refusal::NoSuchResource);
        }
        let verb = Self::asked(method, target, query).ok_or(Refusal::MethodNotAllowed)?;
        let kind = &target.kind;
        let allowed = match &target.subresource {
            Some(name) => match kind.subresource(name) {
                Some(sub) => sub.verbs.iter().any(|v| v == verb.name()),
                // Custom resources answer for subresources they lack when the object is looked for.
                None => return Ok(verb),
            },
            None => kind.allows(verb.name()),
        };
        match (allowed, verb) {
            (true, _) => Ok(verb),
            (false, Self::Watch) if kind.allows("list") => Err(Refusal::VerbNotSupported {
                verb: "watch",
                group: kind.group.clone(),
                resource: kind.plural.clone(),
            }),
            (false, _) => Err(Refusal::MethodNotAllowed),
        }
    }

    fn asked(method: &Method, target: &Target, query: &Query) -> Option<Self> {
        let named = target.name.is_some();
        let collection = !named && (!target.kind.namespaced || !target.namespace.is_empty());
        Some(match *method {
            Method::GET if target.watch => Self::Watch,
            _ if target.watch => return None,
            Method::GET if named => Self::Get,
            Method::GET if query.flag("watch") => Self::Watch,
            Method::GET => Self::List,
            Method::POST if collection || target.subresource.is_some() => Self::Create,
            // Custom resources take a create at the object's own path, too.
            Method::POST if named && target.kind.custom.is_some() => Self::Create,
            Method::PUT if named => Self::Update,
            Method::PATCH if named => Self::Patch,
            Method::DELETE if named => Self::Delete,
            Method::DELETE if collection => Self::DeleteCollection,
            _ => return None,
        })
    }

    /// As discovery and access rules spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub(crate) fn has_body(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }

    /// Whether the answer may take as long as it likes.
    pub(crate) fn is_long(self, call: &Call) -> bool {
        self == Self::Watch
            || matches!(call.target.subresource.as_deref(), Some("log" | "exec" | "attach" | "portforward"))
    }
}

/// Whether a path leads anywhere: nobody finds an object of a kind that can only be created.
fn is_served(target: &Target) -> bool {
    let any = |verbs: &[&str]| verbs.iter().any(|verb| target.kind.allows(verb));
    match (&target.name, target.subresource.is_some()) {
        (_, true) => true,
        (Some(_), _) => any(&["get", "update", "patch", "delete"]),
        (None, _) if target.kind.namespaced && target.namespace.is_empty() => any(&["list", "watch"]),
        (None, _) => true,
    }
}

/// Does what is asked.
pub(crate) async fn act(verb: Verb, call: Call) -> Result<Response<Body>, Refusal> {
    if call.target.subresource.is_some() {
        return subresources::act(verb, &call).await;
    }
    if call.kind().is("", "Binding") {
        return subresources::bind_by_collection(call).await;
    }
    let call = &call;
    if crate::reviews::answers(call.kind()) {
        return crate::reviews::create(call);
    }
    match verb {
        Verb::Get => get::get(call).await,
        Verb::List => list::list(call).await,
        Verb::Watch => watch::watch(call).await,
        Verb::Create => create::create(call).await,
        Verb::Update => update::update(call).await,
        Verb::Patch => patch::patch(call).await,
        Verb::Delete => delete::delete(call).await,
        Verb::DeleteCollection => delete_collection::delete_collection(call).await,
    }
}

/// Reads or writes an object through one of its subresources.
pub(crate) async fn on_object(verb: Verb, call: &Call) -> Result<Response<Body>, Refusal> {
    match verb {
        Verb::Update => update::update(call).await,
        Verb::Patch => patch::patch(call).await,
        _ => get::get(call).await,
    }
}
