//! Scenarios recorded from a real API server, read for tests of the parts that can be judged alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a step asks for.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: String,
    pub(crate) subresource: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) step: &'a Value,
}

/// In the place of those that the recording masks.
const UID: &str = "00000000-0000-0000-0000-000000000009";
const SUBRESOURCES: [&str; 3] = ["status", "scale", "finalize"];

impl<'a> Request<'a> {
    pub(crate) fn parse(step: &'a Value) -> Self {
        let (method, url) = step["do"].as_str().and_then(|s| s.split_once(' ')).expect("a step says what to do");
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query = query.split('&').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), percent_decoded(v)));
        let (path, subresource) = match path.rsplit_once('/') {
            Some((object, last)) if SUBRESOURCES.contains(&last) => (object, Some(last.to_owned())),
            _ => (path, None),
        };
        // Objects are the same in every version.
        let steps = path.split('/').enumerate().filter(|(place, step)| *place != 3 || !step.starts_with('v'));
        let path = steps.map(|(_, step)| step).collect::<Vec<_>>().join("/");
        Self { method, path, subresource, query: query.collect(), step }
    }

    pub(crate) fn is_apply(&self) -> bool {
        self.step["type"] == "apply"
    }

    pub(crate) fn force(&self) -> bool {
        self.query.get("force").is_some_and(|force| !matches!(force.as_str(), "false" | "0"))
    }

    pub(crate) fn manager(&self) -> String {
        let agent = self.step["headers"]["User-Agent"].as_str().unwrap_or_default();
        let named = self.query.get("fieldManager").filter(|name| !name.is_empty());
        named.cloned().unwrap_or_else(|| crate::managed::manager_from_user_agent(agent).to_owned())
    }

    pub(crate) fn body(&self) -> Option<Value> {
        match &self.step["body"] {
            Value::String(text) => serde_saphyr::from_str(text).ok(),
            body => Some(body.clone()),
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("a recorded query is encoded well"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("a recorded query is text")
}

/// Where a merged object says what the answer does not say. Defaults, and the canonical form of numbers, come later.
pub(crate) fn lacks(object: &Value, answer: &Value, path: &str) -> Option<String> {
    match (object, answer) {
        (Value::Object(object), Value::Object(answer)) => object.iter().find_map(|(key, value)| {
            let skipped = ["metadata", "status", "stringData", "date"].contains(&key.as_str());
            let path = format!("{path}.{key}");
            if skipped || empty(value) {
                return None;
            }
            answer.get(key).map_or_else(|| Some(format!("{path} is not in the answer")), |a| lacks(value, a, &path))
        }),
        (Value::Array(object), Value::Array(answer)) if object.len() == answer.len() => object
            .iter()
            .zip(answer)
            .enumerate()
            .find_map(|(index, (value, answer))| lacks(value, answer, &format!("{path}[{index}]"))),
        (Value::Array(object), Value::Array(answer)) => {
            Some(format!("{path} has {} items, not {}", object.len(), answer.len()))
        }
        (object, answer) if object == answer || spelled_otherwise(object, answer) => None,
        (object, answer) => Some(format!("{path} is {object}, not {answer}")),
    }
}

fn empty(value: &Value) -> bool {
    value.is_null()
        || value == ""
        || value.as_object().is_some_and(|map| map.values().all(empty))
        || value.as_array().is_some_and(Vec::is_empty)
}

/// Quantities and numbers that typed decoding writes in their one form.
fn spelled_otherwise(object: &Value, answer: &Value) -> bool {
    if object.is_number() && answer.is_number() {
        return object.as_f64() == answer.as_f64();
    }
    let digits = |value: &Value| value.to_string().contains(|c: char| c.is_ascii_digit());
    digits(object) && digits(answer)
}

pub(crate) fn scenarios(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    files
}

/// One scenario, with values in the place of what the recording masks or leaves open.
pub(crate) fn scenario(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).expect("a readable scenario");
    let text = text.replace("${ns}", "ns").replace("<uid>", UID).replace("<uuid>", UID);
    serde_json::from_str(&text).expect("a scenario is JSON")
}
