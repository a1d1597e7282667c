//! Remarks on objects that are accepted all the same.

use serde_json::Value;

use crate::kinds::Kind;

/// The remarks on an object that is created, or that replaces `old`.
pub fn warnings(_kind: &Kind, _object: &Value, _old: Option<&Value>) -> Vec<String> {
    Vec::new()
}
