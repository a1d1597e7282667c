//! An owner is named once.

use serde_json::{Value, json};

use crate::call::Call;

/// When a duplicate was found, as the warning says it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    InTheBody,
    AfterAdmission,
}

/// Drops owner references that stand twice, with a warning.
pub(crate) fn dedup(call: &Call, object: &mut Value, found: Found) {
    let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let mut kept: Vec<&Value> = Vec::new();
    let mut twice = Vec::new();
    for reference in &references {
        if kept.contains(&reference) {
            twice.push(reference["uid"].as_str().unwrap_or_default());
        } else {
            kept.push(reference);
        }
    }
    if twice.is_empty() {
        return;
    }
    let when = match found {
        Found::InTheBody => "",
        Found::AfterAdmission => " after mutating admission happens",
    };
    call.notices.add(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may \
         reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ));
    object["metadata"]["ownerReferences"] = json!(kept);
}
