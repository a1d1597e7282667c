//! The kinds of the stored definitions, compiled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use sluice_schema::{Kind, crd};
use sluice_store::{Entry, Revision};

use super::all;
use crate::object::Object;
use crate::server::Server;

/// What is known of each definition, so that one definition's write reads no other, and an object's write none.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    known: Mutex<HashMap<String, Known>>,
    accepting: tokio::sync::Mutex<()>,
}

/// A definition at a revision.
#[derive(Debug, Clone)]
struct Known {
    revision: Revision,
    /// Changes with the spec, and not with the status.
    generation: Value,
    /// Marked for deletion.
    going: bool,
    /// `None` until its names were accepted.
    kinds: Option<Vec<Arc<Kind>>>,
}

impl Serving {
    /// Whether this definition is marked for deletion.
    pub(super) fn is_going(&self, definition: &str) -> bool {
        self.known().get(definition).is_some_and(|known| known.going)
    }

    /// The definitions that are marked for deletion.
    pub(super) fn going(&self) -> Vec<String> {
        self.known().iter().filter(|(_, known)| known.going).map(|(name, _)| name.clone()).collect()
    }

    /// Who decides on names does so alone.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.accepting.lock().await
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().expect("nobody panics while publishing")
    }
}

/// Serves the kinds of all established definitions, and of no others.
pub(super) fn publish(server: &Server) {
    let mut known = server.inner.serving.known();
    let next: HashMap<String, Known> = all(server)
        .iter()
        .map(|entry| {
            let name = entry.key.rsplit('/').next().unwrap_or_default();
            (name.to_owned(), learn(entry, known.get(name)))
        })
        .collect();
    let mut kinds: Vec<Arc<Kind>> = Vec::new();
    for one in next.values() {
        kinds.extend(one.kinds.iter().flatten().cloned());
    }
    *known = next;
    server.registry().publish(kinds);
    server.inner.documents.keep_only(&server.registry().kinds());
}

fn learn(entry: &Entry, before: Option<&Known>) -> Known {
    if let Some(same) = before.filter(|before| before.revision == entry.revision) {
        return same.clone();
    }
    let definition = entry.value();
    let generation = definition["metadata"]["generation"].clone();
    let compiled = before.filter(|before| before.generation == generation).and_then(|before| before.kinds.clone());
    let kinds = is_established(&definition).then(|| compiled.unwrap_or_else(|| compile(entry.revision, &definition)));
    Known { revision: entry.revision, generation, going: definition.being_deleted(), kinds }
}

fn compile(since: Revision, definition: &Value) -> Vec<Arc<Kind>> {
    // What was stored was valid; what is not (any more) is not served.
    let mut kinds = crd::compile(definition).unwrap_or_default();
    for custom in kinds.iter_mut().filter_map(|kind| kind.custom.as_mut()).filter_map(Arc::get_mut) {
        custom.since = since.0;
    }
    kinds.into_iter().map(Arc::new).collect()
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
}
