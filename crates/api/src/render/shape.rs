//! Tables and bare metadata.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::Call;
use crate::refusal::Refusal;
use crate::rules;

/// What a table's rows carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    Nothing,
}

pub(crate) fn include(call: &Call) -> Result<Include, Refusal> {
    match call.query.get("includeObject") {
        None | Some("" | "Metadata") => Ok(Include::Metadata),
        Some("Object") => Ok(Include::Object),
        Some("None") => Ok(Include::Nothing),
        Some(other) => Err(Refusal::bad(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', \
             'None', or empty"
        ))),
    }
}

pub(crate) fn table(call: &Call, version: &str, items: &[Value], metadata: &Value) -> Result<Value, Refusal> {
    let include = include(call)?;
    let now = Timestamp::now();
    let rows: Vec<Value> = items.iter().map(|item| row(call, version, item, include, now)).collect();
    let mut about = json!({});
    for field in ["resourceVersion", "continue", "remainingItemCount"] {
        if let Some(value) = metadata.get(field).filter(|value| *value != "") {
            about[field] = value.clone();
        }
    }
    Ok(json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": about,
              "columnDefinitions": rules::columns(call.kind(), items.first()), "rows": rows}))
}

pub(crate) fn row(call: &Call, version: &str, item: &Value, include: Include, now: Timestamp) -> Value {
    let mut row = rules::row(call.kind(), item, now);
    row["object"] = match include {
        Include::Metadata => partial(item, version),
        Include::Object => item.clone(),
        Include::Nothing => Value::Null,
    };
    row
}

pub(crate) fn partial(item: &Value, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": item["metadata"]})
}
