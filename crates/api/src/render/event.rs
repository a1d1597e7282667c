//! The frames of a watch: one line of JSON for each event.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::Kind;
use sluice_store::Entry;

use super::shape::{self, Include};
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::{Encoding, Shape};
use crate::{rules, versions};

/// Makes the frames of one watch.
pub(crate) struct Frames {
    kind: Arc<Kind>,
    shape: Shape,
    include: Include,
    yaml: bool,
    /// Only the first table of a watch names its columns.
    columns_told: bool,
}

impl Frames {
    pub(crate) fn new(call: &Call) -> Result<Self, Refusal> {
        let include = match call.accept.shape {
            Shape::Table(_) => shape::include(call)?,
            _ => Include::Metadata,
        };
        Ok(Self {
            kind: Arc::clone(&call.target.kind),
            shape: call.accept.shape.clone(),
            include,
            yaml: call.accept.encoding == Encoding::Yaml,
            columns_told: false,
        })
    }

    /// `what` is `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) fn event(&mut self, what: &str, entry: &Entry) -> Bytes {
        if self.shape == Shape::Object && !self.yaml && versions::is_stored(&self.kind, entry) {
            return [b"{\"type\":\"", what.as_bytes(), b"\",\"object\":", &entry.bytes, b"}\n"].concat().into();
        }
        let object = versions::view(&self.kind, entry.to_value());
        self.frame(what, object)
    }

    /// An object that left the selection: as it last was in it, at the revision of the change.
    pub(crate) fn left(&mut self, last: &Entry, revision: u64) -> Bytes {
        let mut object = versions::view(&self.kind, last.to_value());
        object.set_meta("resourceVersion", revision.to_string());
        self.frame("DELETED", object)
    }

    /// How far the watch has come; the first one may say that the state is complete.
    pub(crate) fn bookmark(&mut self, revision: u64, state_complete: bool) -> Bytes {
        let mut object = rules::zero(&self.kind);
        object["kind"] = json!(self.kind.kind);
        object["apiVersion"] = json!(self.kind.api_version());
        object["metadata"] = json!({"resourceVersion": revision.to_string()});
        if state_complete {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        } else if self.kind.custom.is_none() {
            object["metadata"]["creationTimestamp"] = Value::Null;
        }
        self.frame("BOOKMARK", object)
    }

    fn frame(&mut self, what: &str, object: Value) -> Bytes {
        let shown = match &self.shape {
            Shape::Table(version) => {
                let version: &'static str = version;
                self.table(version, &object)
            }
            Shape::Partial(version) | Shape::PartialList(version) => shape::partial(&object, version),
            _ => object,
        };
        let frame = json!({"type": what, "object": shown});
        let text = if self.yaml { serde_saphyr::to_string(&frame).ok() } else { None };
        text.map_or_else(|| format!("{frame}\n"), |yaml| format!("---\n{yaml}")).into()
    }

    fn table(&mut self, version: &str, object: &Value) -> Value {
        let columns = if self.columns_told { Value::Null } else { rules::columns(&self.kind, None) };
        self.columns_told = true;
        let mut row = rules::row(&self.kind, object, Timestamp::now());
        row["object"] = match self.include {
            Include::Metadata => shape::partial(object, version),
            Include::Object => object.clone(),
            Include::Nothing => Value::Null,
        };
        json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
               "metadata": {"resourceVersion": object.resource_version()}, "columnDefinitions": columns, "rows": [row]})
    }
}

/// The frame with which a watch says why it ends.
pub(crate) fn error_frame(refusal: &Refusal) -> Bytes {
    format!("{}\n", json!({"type": "ERROR", "object": refusal.status()})).into()
}
