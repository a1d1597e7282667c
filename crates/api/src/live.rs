//! The seam for objects that nobody stores: whoever knows them makes them when they are read.
//!
//! On a cluster such kinds come from another server, behind an `APIService`. Here they are kinds like any other, with the same
//! selectors, tables and documents, and only their objects come from elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;
use sluice_schema::Kind;
use sluice_store::{Entry, Revision};

use crate::body::Body;
use crate::call::Call;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::selection::Selection;
use crate::storage::Key;
use crate::verbs::Found;

/// Objects as they are now, or why they cannot be told.
pub type LiveAnswer<'a> = Pin<Box<dyn Future<Output = Result<Vec<Value>, String>> + Send + 'a>>;

/// Knows the objects of some kinds.
pub trait LiveObjects: Send + Sync {
    /// The objects of a resource, by its plural: in one namespace, or in all when that is empty; of one name, or of all.
    fn read<'a>(&'a self, plural: &'a str, namespace: &'a str, name: Option<&'a str>) -> LiveAnswer<'a>;
}

/// Kinds that are served and not stored. They must allow no verb but `get` and `list`.
pub struct Live {
    pub kinds: Vec<Kind>,
    pub objects: Arc<dyn LiveObjects>,
}

impl Live {
    pub(crate) fn serves(&self, kind: &Kind) -> bool {
        self.kinds.iter().any(|live| (&live.group, &live.plural) == (&kind.group, &kind.plural))
    }
}

pub(crate) async fn list(call: &Call, live: &Live, selection: &Selection) -> Result<Response<Body>, Refusal> {
    let mut entries = entries(call, live, None).await?;
    entries.retain(|entry| selection.matches(call.kind(), entry));
    let found = Found { entries, revision: Revision::ZERO, next: None, remaining: None };
    render::list(call, StatusCode::OK, &found)
}

pub(crate) async fn get(call: &Call, live: &Live) -> Result<Response<Body>, Refusal> {
    let found = entries(call, live, Some(call.name())).await?;
    match found.first() {
        Some(entry) => render::entry(call, StatusCode::OK, entry),
        None => Err(Refusal::NotFound(named(call))),
    }
}

async fn entries(call: &Call, live: &Live, name: Option<&str>) -> Result<Vec<Arc<Entry>>, Refusal> {
    let kind = call.kind();
    let objects = live.objects.read(&kind.plural, call.namespace(), name).await;
    let objects = objects.map_err(Refusal::ServiceUnavailable)?;
    let entry = |object: Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key::new(kind, &text("namespace"), &text("name"));
        let bytes = serde_json::to_vec(&object).expect("JSON values always serialise");
        Arc::new(Entry::new(key.0.into(), Revision::ZERO, Revision::ZERO, bytes.into()))
    };
    Ok(objects.into_iter().map(entry).collect())
}

/// As servers beside the API name what they do not have: by the kind and the whole name.
fn named(call: &Call) -> Named {
    let kind = call.kind();
    let name = if kind.namespaced { format!("{}/{}", call.namespace(), call.name()) } else { call.name().to_owned() };
    Named { group: kind.group.clone(), resource: kind.kind.to_lowercase(), name }
}
