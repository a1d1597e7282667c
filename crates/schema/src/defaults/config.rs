//! Secrets.

use base64::Engine;
use serde_json::Value;

use crate::edit::Edit;

/// The type, and `stringData` folded into `data`.
pub(super) fn secret(object: &mut Value) {
    object.default("type", "Opaque");
    let Some(Value::Object(plain)) = object.cut("stringData") else { return };
    if plain.is_empty() {
        return;
    }
    let data = object.ensure("data");
    for (key, text) in plain {
        let text = text.as_str().unwrap_or_default();
        data.put(&key, base64::engine::general_purpose::STANDARD.encode(text));
    }
}
