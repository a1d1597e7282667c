//! Who owns which field: server-side apply and `metadata.managedFields`.
//!
//! For each kind of write there is one function, to be called by the API with the object as it was decoded and defaulted,
//! before anything is reset or prepared:
//!
//! | write | call | then |
//! | --- | --- | --- |
//! | create (POST, or a PUT that creates) | [`update`] with no live object | admission, `prepare::create`, validation |
//! | PUT, JSON/merge/strategic patch, also of `/status` | [`update`] with the live object | [`settle`], `prepare::update`, validation |
//! | apply, also of `/status`, of a missing object too | [`apply`] | typed decoding, defaults, [`settle`], as above |
//! | PUT or patch of `/scale` | [`Scale::update`] | the parent is written like a PUT, without calling [`update`] |
//! | apply to `/scale` | [`Scale::apply`] | the same |
//!
//! - [`apply`] returns the merged object before defaults, so the caller decodes and defaults it as it does the body of a
//!   POST. Nulls in it mean "not there". The merged object can lack `metadata.name`, which is the client's mistake.
//! - A write after which the object equals the live one is no write. [`settle`] makes that comparison possible: it takes
//!   back new times in `managedFields` when nothing else has changed.
//! - Times are whole seconds, and set by changes of the object only: co-owning what is already there sets none.

mod element;
mod empty;
mod entries;
mod last_applied;
mod owner;
mod place;
mod reset;
mod scale;
mod set;
#[cfg(test)]
mod tests;
mod typecheck;
mod walk;

use jiff::Timestamp;
use serde_json::Value;

pub use entries::MAX_UPDATE_MANAGERS;
use entries::{Identity, Managers, Operation};
use owner::{OwnerError, Write, nobody};
use place::Place;
pub use scale::Scale;
use typecheck::{Duplicates, check};

use crate::kinds::Kind;

/// Longest name of a manager, in bytes.
pub const MAX_MANAGER_BYTES: usize = 128;
/// The owner of all that was there before anybody was recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, what, and when.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The kind in the version of the request; for `/scale` the kind `Scale`.
    pub kind: &'a Kind,
    /// `fieldManager`, or the name made from the user agent by [`manager_from_user_agent`].
    pub manager: &'a str,
    /// `status`, `scale`, ...; nothing for the object itself.
    pub subresource: Option<&'a str>,
    pub now: Timestamp,
    /// How objects look in the other versions of this resource.
    pub versions: &'a dyn Versions,
}

/// Objects in other versions of their resource: an entry of another version is judged on the object in that version.
pub trait Versions {
    /// The kind in another version, and the object as it looks there. `None`: there is no such version.
    fn convert<'a>(&'a self, object: &Value, api_version: &str) -> Option<(&'a Kind, Value)>;
}

/// A resource that is served in one version.
pub struct OnlyVersion;

impl Versions for OnlyVersion {
    fn convert<'a>(&'a self, _: &Value, _: &str) -> Option<(&'a Kind, Value)> {
        None
    }
}

/// One field that somebody else owns and that the applied object says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `"m"`, or `"m" with subresource "status" using v1`.
    pub manager: String,
    /// `.spec.containers[name="main"].image`.
    pub path: String,
}

/// Why an object cannot be applied. The variant decides the status of the answer, the text is its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 `Conflict`, each conflict a cause `FieldManagerConflict` with [`Conflict::message`] and the path as its field.
    #[error("{}", conflicts_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// 500 with the message alone and no reason.
    #[error("{0}")]
    Failed(String),
}

impl Conflict {
    /// The message of the cause.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

fn conflicts_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", only.message(), only.path);
    }
    let mut lines = vec![];
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// The manager of a write that names none: the user agent up to the first slash.
pub fn manager_from_user_agent(user_agent: &str) -> &str {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut end = name.len().min(MAX_MANAGER_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "unknown" } else { &name[..end] }
}

/// Records a create (no `live`), a PUT, or a patch that is no apply in the `managedFields` of `new`.
///
/// Objects that are not tracked stay so; `[]` and `[{}]` end the tracking; a list that the client sent counts in place of
/// the live one if it can be read.
pub fn update(writer: &Writer<'_>, live: Option<&Value>, new: &mut Value) {
    let mut managers = managers_of(writer, live, new);
    let live = live.map(untracked);
    *new = untracked(new);
    if managers.is_empty() && live.is_some() {
        return;
    }
    let live = live.unwrap_or_else(|| empty::object(writer.kind));
    let write = Write::new(writer.kind, writer.versions, writer.subresource);
    let identity = writer.identity(Operation::Update);
    // What cannot be judged is not recorded at all, rather than wrongly.
    if record(&write, &live, new, &mut managers, &identity, writer.now).is_ok() {
        managers.cap();
        set_entries(new, &managers);
    }
}

/// Applies `patch` to the live object, or to nothing. The result carries its `managedFields`.
pub fn apply(writer: &Writer<'_>, live: Option<&Value>, patch: &Value, force: bool) -> Result<Value, ApplyError> {
    check_version(writer.kind, patch)?;
    let entries = live.map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
    let mut managers = Managers::decode(entries)
        .map_err(|why| ApplyError::Failed(format!("failed to decode managed fields: {why}")))?;
    if !patch["metadata"]["managedFields"].is_null() {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    check(Place::Typed(writer.kind.ty()), patch, Duplicates::Refused)
        .map_err(|why| ApplyError::Failed(format!("failed to create typed patch object ({}): {why}", named(patch))))?;
    let write = Write::new(writer.kind, writer.versions, writer.subresource);
    let live = live.map_or_else(|| Value::Object(serde_json::Map::new()), untracked);
    check(Place::Typed(writer.kind.ty()), &live, Duplicates::Allowed)
        .map_err(|why| ApplyError::Failed(format!("failed to create typed live object ({}): {why}", named(&live))))?;
    if managers.is_empty() {
        let before =
            Identity::new(BEFORE_FIRST_APPLY, Operation::Update, &writer.kind.api_version(), writer.subresource);
        record(&write, &empty::object(writer.kind), &live, &mut managers, &before, writer.now)?;
    }
    let (object, mut managers) = merged(writer, &write, &live, patch, managers, force)?;
    let identity = writer.identity(Operation::Apply);
    strip(&mut managers, &identity);
    let mut object = match object {
        Some(object) => {
            if let Some(owned) = managers.owners.get_mut(&identity) {
                owned.time = Some(writer.now);
            }
            object
        }
        None => live,
    };
    if writer.manager == last_applied::KUBECTL {
        last_applied::refresh(&mut object, patch);
    }
    set_entries(&mut object, &managers);
    Ok(object)
}

/// Takes back new times in the `managedFields` of `new` when nothing else distinguishes it from the live object.
pub fn settle(new: &mut Value, live: &Value) {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        object
    };
    if new["metadata"]["managedFields"] != live["metadata"]["managedFields"] && timeless(new) == timeless(live) {
        new["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
    }
}

impl Writer<'_> {
    fn identity(&self, operation: Operation) -> Identity {
        let manager = if self.manager.is_empty() && operation == Operation::Update { "unknown" } else { self.manager };
        Identity::new(manager, operation, &self.kind.api_version(), self.subresource)
    }
}

/// The merge under the rule for `kubectl`: what its client-side predecessor wrote is its own.
fn merged(
    writer: &Writer<'_>,
    write: &Write<'_>,
    live: &Value,
    patch: &Value,
    managers: Managers,
    force: bool,
) -> Result<(Option<Value>, Managers), ApplyError> {
    let identity = writer.identity(Operation::Apply);
    let mut attempt = managers.clone();
    match write.apply(live, patch, &mut attempt, &identity, force) {
        Ok(object) => Ok((object, attempt)),
        Err(OwnerError::Conflicts(conflicts)) if writer.manager == last_applied::KUBECTL => {
            let remaining = last_applied::remaining(writer.kind, live, conflicts);
            if !remaining.is_empty() {
                return Err(ApplyError::Conflicts(remaining));
            }
            let mut managers = managers;
            let object = write.apply(live, patch, &mut managers, &identity, true)?;
            Ok((object, managers))
        }
        Err(error) => Err(error.into()),
    }
}

/// What `identity` changes from `live` to `new` becomes its own.
fn record(
    write: &Write<'_>,
    live: &Value,
    new: &Value,
    managers: &mut Managers,
    identity: &Identity,
    now: Timestamp,
) -> Result<(), OwnerError> {
    for object in [live, new] {
        check(Place::Typed(write.kind.ty()), object, Duplicates::Allowed).map_err(OwnerError::Failed)?;
    }
    let mut own = write.update(live, new, managers, &nobody())?;
    own.fields = own.fields.difference(&reset::never_owned());
    if own.fields.is_empty() {
        return Ok(());
    }
    if let Some(before) = managers.owners.get(identity) {
        own.fields = own.fields.union(&before.fields);
    }
    own.time = Some(now);
    managers.owners.insert(identity.clone(), own);
    Ok(())
}

fn strip(managers: &mut Managers, identity: &Identity) {
    if let Some(owned) = managers.owners.get(identity) {
        let fields = owned.fields.difference(&reset::never_owned());
        managers.set_fields(identity, fields);
    }
}

/// The managers that a write starts from.
fn managers_of(writer: &Writer<'_>, live: Option<&Value>, new: &Value) -> Managers {
    let of_live =
        || live.and_then(|live| Managers::decode(&live["metadata"]["managedFields"]).ok()).unwrap_or_default();
    if writer.subresource.is_some() {
        return of_live();
    }
    let sent = &new["metadata"]["managedFields"];
    let clears = match sent.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    };
    if clears {
        return Managers::default();
    }
    Managers::decode(sent).ok().filter(|managers| !managers.is_empty()).unwrap_or_else(of_live)
}

fn untracked(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn set_entries(object: &mut Value, managers: &Managers) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && !managers.is_empty()
    {
        metadata.insert("managedFields".to_owned(), managers.encode());
    }
}

fn check_version(kind: &Kind, patch: &Value) -> Result<(), ApplyError> {
    let (api_version, name) = (patch["apiVersion"].as_str(), patch["kind"].as_str());
    if api_version == Some(kind.api_version().as_str()) && name == Some(kind.kind.as_str()) {
        return Ok(());
    }
    Err(ApplyError::BadRequest(format!("invalid object type: {}", type_of(patch))))
}

/// `/v1, Kind=ConfigMap`, `apps/v1, Kind=Deployment`.
fn type_of(object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={}", object["kind"].as_str().unwrap_or_default())
}

/// How messages name an applied object: `NAMESPACE/NAME; TYPE`.
pub fn named(object: &Value) -> String {
    let metadata = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}; {}", metadata("namespace"), metadata("name"), type_of(object))
}
