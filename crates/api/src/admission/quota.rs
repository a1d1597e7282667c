//! Quotas: nothing is stored that one of its namespace has no room for.
//!
//! What a quota counts is raised in the same commit that stores the object, so however many ask at once, the last place
//! is given once, and nothing is counted that was not stored. Counting down is the controller's.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_model::quota::{self, Charge, Quota, Request, Resource};
use sluice_store::Entry;
use tokio::sync::{Mutex, MutexGuard};

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::storage::{Change, Key, scope};

/// Namespaces share this many queues, so that those who want the same place wait instead of trying again and again.
const QUEUES: usize = 64;

/// Where writers that are counted by a quota wait for each other, by namespace.
#[derive(Debug)]
pub(crate) struct QuotaQueues([Mutex<()>; QUEUES]);

impl Default for QuotaQueues {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// The quotas that count an object once it is written, to be written with it.
#[derive(Debug, Default)]
pub(crate) struct Charges<'a> {
    pub(crate) changes: Vec<Change>,
    /// The place in the queue.
    _turn: Option<MutexGuard<'a, ()>>,
}

/// Asks the quotas of the namespace for room; `before` is what the object was, none for a new one.
pub(crate) async fn charge<'a>(call: &'a Call, before: Option<&Value>, object: &Value) -> Result<Charges<'a>, Refusal> {
    let kind = call.kind();
    if !kind.namespaced || call.target.subresource.is_some() || quotas(call).is_empty() {
        return Ok(Charges::default());
    }
    let QuotaQueues(queues) = &call.server.inner.quota_queues;
    let queue = sluice_model::fnv1a(call.namespace().as_bytes()) as usize % QUEUES;
    let turn = queues[queue].lock().await;
    let entries = quotas(call);
    let quotas: Vec<_> = entries.iter().map(|entry| Quota::of(&entry.value())).collect();
    let resource = Resource::new(&kind.group, &kind.plural);
    let request = Request { resource: &resource, object, before, now: Timestamp::now() };
    let charges = quota::charge(request, &quotas).map_err(|why| Refusal::forbidden(kind, object.name(), why))?;
    let changes = charges.iter().map(|charge| change(&entries[charge.quota], charge)).collect();
    Ok(Charges { changes, _turn: Some(turn) })
}

fn quotas(call: &Call) -> Vec<Arc<Entry>> {
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("", "v1", "resourcequotas").expect("quotas are built in");
    call.server.storage().all(&scope(&kind, call.namespace()))
}

fn change(entry: &Entry, charge: &Charge) -> Change {
    let mut object = entry.to_value();
    object["status"]["used"] = json!(charge.used);
    Change { key: Key(entry.key.to_string()), from: entry.revision, object }
}
