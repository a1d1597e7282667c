//! ConfigMaps and Secrets.

use super::check::Faults;
use super::cursor::At;
use super::names;
use crate::fault::Fault;

/// All values of a ConfigMap or a Secret together may have this many bytes.
const SIZE_MAX: usize = 1024 * 1024;
const ONCE_IMMUTABLE: &str = "field is immutable when `immutable` is set";
const REDACTED: &str = "<secret contents redacted>";

pub(crate) fn config_map(f: &mut Faults, object: &At<'_>) {
    let mut size = 0;
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in object.get(field).entries() {
            f.problems(&value, key, names::config_key(key));
            if field == "data" && object.get(other).map().is_some_and(|map| map.contains_key(key)) {
                f.invalid_value(&value, key, format!("duplicate of key present in {other}"));
            }
            size += if field == "data" { value.str().len() } else { decoded_len(value.str()) };
        }
    }
    if size > SIZE_MAX {
        f.add(Fault::too_long("", SIZE_MAX));
    }
}

/// How many bytes a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|c| *c == b'=').count()
}

/// What may not change once `immutable` is set.
pub(crate) fn once_immutable(f: &mut Faults, new: &At<'_>, old: &At<'_>, fields: &[&'static str]) {
    if !old.get("immutable").bool() {
        return;
    }
    if !new.get("immutable").bool() {
        f.forbidden(&new.get("immutable"), ONCE_IMMUTABLE);
    }
    for field in fields {
        let (new, old) = (new.get(field), old.get(field));
        if new.value != old.value && !(new.is_zero() && old.is_zero()) {
            f.forbidden(&new, ONCE_IMMUTABLE);
        }
    }
}

pub(crate) fn secret(f: &mut Faults, object: &At<'_>) {
    let data = object.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        f.problems(&value, key, names::config_key(key));
        size += decoded_len(value.str());
    }
    if size > SIZE_MAX {
        f.too_long(&data, SIZE_MAX);
    }
    match object.text("type") {
        "kubernetes.io/service-account-token" => {
            f.present(&object.dig(&["metadata", "annotations"]).key("kubernetes.io/service-account.name"));
        }
        "kubernetes.io/dockercfg" => json_of(f, &data.key(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => json_of(f, &data.key(".dockerconfigjson")),
        "kubernetes.io/basic-auth" => {
            let (user, password) = (data.key("username"), data.key("password"));
            if !user.is_set() && !password.is_set() {
                f.required(&user, "");
                f.required(&password, "");
            }
        }
        "kubernetes.io/ssh-auth" => {
            f.present(&data.key("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].map(|key| data.key(key)) {
                if !key.is_set() {
                    f.required(&key, "");
                }
            }
        }
        _ => {}
    }
}

/// The key must be there and hold JSON.
fn json_of(f: &mut Faults, at: &At<'_>) {
    use base64::Engine;
    if !at.is_set() {
        return f.required(at, "");
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(at.str()).unwrap_or_default();
    if let Some(problem) = super::go_json_syntax::problem(&bytes) {
        f.invalid_value(at, REDACTED, problem);
    }
}
