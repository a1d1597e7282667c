//! What pods and claims ask for stays within the limit ranges of their namespace.

use std::sync::Arc;

use serde_json::Value;
use sluice_model::limit_range;
use sluice_store::Entry;

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::storage::scope;

/// Containers that say nothing get what the ranges have for them.
pub(super) fn complete(call: &Call, pod: &mut Value) {
    for range in ranges(call) {
        limit_range::complete(&range.value(), pod);
    }
}

/// Refuses what leaves a range; pods are looked at once, since what they ask for stays.
pub(super) fn check(call: &Call, before: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    let kind = call.kind();
    if call.target.subresource.is_some() {
        return Ok(());
    }
    let violations = if kind.is("", "Pod") && before.is_none() {
        limit_range::pod_violations
    } else if kind.is("", "PersistentVolumeClaim") && !object.being_deleted() {
        limit_range::claim_violations
    } else {
        return Ok(());
    };
    for range in ranges(call) {
        let found = violations(&range.value(), object);
        let why = match found.as_slice() {
            [] => continue,
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        return Err(Refusal::forbidden(kind, object.name(), why));
    }
    Ok(())
}

fn ranges(call: &Call) -> Vec<Arc<Entry>> {
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("", "v1", "limitranges").expect("limit ranges are built in");
    call.server.storage().all(&scope(&kind, call.namespace()))
}
