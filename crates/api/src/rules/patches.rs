//! The three kinds of patches that are not apply.

use serde_json::Value;
use sluice_schema::Kind;
use sluice_schema::decode::{self, Decoded, Format};
use sluice_schema::merge::{self, PatchError, go_json_type};

use crate::refusal::Refusal;
use crate::request::PatchFormat;

/// A patch that is not an apply, read.
#[derive(Debug)]
pub(crate) struct Patch {
    format: PatchFormat,
    body: Value,
    /// Fields that stand twice in the patch.
    pub(crate) notices: Vec<String>,
}

pub(crate) fn read_patch(format: PatchFormat, body: &[u8]) -> Result<Patch, Refusal> {
    let prefix = if format == PatchFormat::Strategic { "" } else { "error decoding patch: " };
    let read = decode::untyped(Format::Json, body);
    let Decoded { object: mut value, mut notices } = read.map_err(|error| Refusal::bad(format!("{prefix}{error}")))?;
    if format == PatchFormat::Json {
        notices = notices.into_iter().map(|notice| format!("json patch {notice}")).collect();
        // A `test` compares numbers as they are written.
        value = serde_json::from_slice(body).unwrap_or(value);
        notices.extend(merge::json_patch_notices(&value));
    }
    if format == PatchFormat::Merge {
        match &value {
            Value::Null => return Err(Refusal::bad("Invalid JSON Patch")),
            Value::Object(_) => {}
            other => {
                let found = go_json_type(other);
                let into = "map[string]interface {}";
                return Err(Refusal::bad(format!(
                    "{prefix}json: cannot unmarshal {found} into Go value of type {into}"
                )));
            }
        }
    }
    Ok(Patch { format, body: value, notices })
}

impl Patch {
    /// Such patches are applied to what a real server calls unstructured objects, and misfits are told otherwise.
    pub(crate) fn is_strategic(&self) -> bool {
        self.format == PatchFormat::Strategic
    }

    /// Applies the patch in place.
    pub(crate) fn apply(&self, kind: &Kind, target: &mut Value) -> Result<(), Refusal> {
        let done = match self.format {
            PatchFormat::Json => merge::json_patch(target, &self.body),
            PatchFormat::Merge => {
                merge::json_merge(target, &self.body);
                Ok(())
            }
            PatchFormat::Strategic | PatchFormat::Apply => {
                let done = merge::strategic(kind.ty(), target, &self.body);
                // What an object is, such a patch cannot change.
                target["kind"] = kind.kind.as_str().into();
                target["apiVersion"] = kind.api_version().into();
                done
            }
        };
        done.map_err(|error| match error {
            PatchError::BadRequest(message) => Refusal::BadRequest(message),
            PatchError::Rejected { .. } => Refusal::Unprocessable,
            PatchError::TooLarge(message) => Refusal::TooLarge(message),
            PatchError::Internal(message) => Refusal::Unexplained(message),
        })
    }

    /// What a refusal quotes: the patch itself as Go prints it, or the whole patched object.
    pub(crate) fn quoted(&self, patched: &Value) -> String {
        match self.format {
            PatchFormat::Strategic => merge::go_print(&self.body),
            _ => patched.to_string(),
        }
    }
}
