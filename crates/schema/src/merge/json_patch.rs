//! JSON patch (RFC 6902), with the leniencies of the implementation that API servers use: `replace` creates missing keys
//! of maps, indices may be negative, a `test` for null passes on what is absent, and whatever stands before the first
//! slash of a pointer is not looked at.

use serde_json::{Map, Value};

use super::PatchError;
use super::go::{go_json_type, go_type};

/// Operations in one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of one patch may copy together.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

const MEMBERS: [&str; 4] = ["op", "path", "from", "value"];

/// Applies a list of operations; null is the empty list.
pub fn json_patch(target: &mut Value, operations: &Value) -> Result<(), PatchError> {
    let operations = decoded(operations)?;
    let mut copied = 0;
    for operation in operations {
        apply(target, operation, &mut copied).map_err(|why| PatchError::Rejected { why })?;
    }
    Ok(())
}

/// What strict field validation says of the operations themselves: members that no operation has.
pub fn json_patch_notices(operations: &Value) -> Vec<String> {
    let mut notices = Vec::new();
    for (index, operation) in operations.as_array().into_iter().flatten().enumerate() {
        let members = operation.as_object().into_iter().flatten().map(|(name, _)| name);
        let unknown = members.filter(|name| !MEMBERS.contains(&name.as_str()));
        notices.extend(unknown.map(|name| format!("json patch unknown field \"[{index}].{name}\"")));
    }
    notices
}

fn decoded(operations: &Value) -> Result<Vec<&Map<String, Value>>, PatchError> {
    let refused = |value: &Value, list: &str| {
        let found = go_json_type(value);
        let text = format!("error decoding patch: json: cannot unmarshal {found} into Go value of type {list}");
        PatchError::BadRequest(text)
    };
    let operations = match operations {
        Value::Null => return Ok(Vec::new()),
        Value::Array(operations) => operations,
        other => return Err(refused(other, "[]handlers.jsonPatchOp")),
    };
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        let text = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::TooLarge(text));
    }
    let object = |value: &'_ Value| value.as_object().is_none().then(|| refused(value, "handlers.jsonPatchOp"));
    if let Some(error) = operations.iter().find_map(object) {
        return Err(error);
    }
    Ok(operations.iter().filter_map(Value::as_object).collect())
}

/// Why an operation failed; for our own logs, clients get a general message.
type Outcome<T> = Result<T, String>;

fn apply(target: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Outcome<()> {
    let value = || operation.get("value").cloned().unwrap_or_default();
    let op = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    let path = || pointer(operation, "path");
    match op {
        "add" => Place::find(target, path()?)?.add(value()),
        "remove" => Place::find(target, path()?)?.remove().map(drop),
        "replace" => replace(target, path()?, value()),
        "move" => {
            let moved = Place::find(target, pointer(operation, "from")?)?.remove()?;
            Place::find(target, path()?)?.add(moved)
        }
        "copy" => {
            let copy = Place::find(target, pointer(operation, "from")?)?.get()?.cloned().unwrap_or_default();
            *copied += copy.to_string().len();
            if *copied > MAX_COPIED_BYTES {
                return Err(format!("copies {copied} bytes, more than {MAX_COPIED_BYTES}"));
            }
            Place::find(target, path()?)?.add(copy)
        }
        "test" => test(target, path()?, &value()),
        other => Err(format!("unknown operation `{other}`")),
    }
}

fn pointer<'a>(operation: &'a Map<String, Value>, member: &str) -> Outcome<&'a str> {
    let pointer = operation.get(member).ok_or_else(|| format!("operation without `{member}`"))?;
    pointer.as_str().ok_or_else(|| format!("`{member}` is a {}", go_type(pointer)))
}

fn replace(target: &mut Value, path: &str, value: Value) -> Outcome<()> {
    if !path.is_empty() {
        return Place::find(target, path)?.replace(value);
    }
    if value.is_object() || value.is_array() {
        *target = value;
    }
    Ok(())
}

fn test(target: &mut Value, path: &str, expected: &Value) -> Outcome<()> {
    let found = match path {
        "" => Some(&*target),
        path => Place::find(target, path)?.into_found()?,
    };
    let equal = found.unwrap_or(&Value::Null) == expected;
    if equal { Ok(()) } else { Err(format!("`{path}` is not `{expected}`")) }
}

/// The last step of a pointer: a key that may be missing from its map, or a place in a list.
enum Place<'a> {
    Key(&'a mut Map<String, Value>, String),
    Index(&'a mut Vec<Value>, String),
}

impl<'a> Place<'a> {
    fn find(target: &'a mut Value, pointer: &str) -> Outcome<Self> {
        let missing = || format!("nothing at `{pointer}`");
        let mut steps: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
        let last = steps.pop().ok_or_else(missing)?;
        let mut at = target;
        for step in steps {
            at = match at {
                Value::Object(map) => map.get_mut(&step),
                Value::Array(items) => index(&step, items.len()).and_then(|i| items.get_mut(i)),
                _ => None,
            }
            .ok_or_else(missing)?;
        }
        match at {
            Value::Object(map) => Ok(Self::Key(map, last)),
            Value::Array(items) => Ok(Self::Index(items, last)),
            _ => Err(missing()),
        }
    }

    /// What stands there; a missing key is nothing, a missing index is an error.
    fn get(&self) -> Outcome<Option<&Value>> {
        match self {
            Self::Key(map, key) => Ok(map.get(key)),
            Self::Index(items, text) => existing(text, items.len()).map(|i| items.get(i)),
        }
    }

    fn into_found(self) -> Outcome<Option<&'a Value>> {
        match self {
            Self::Key(map, key) => Ok(map.get(&key)),
            Self::Index(items, text) => existing(&text, items.len()).map(|i| items.get(i)),
        }
    }

    fn add(self, value: Value) -> Outcome<()> {
        match self {
            Self::Key(map, key) => drop(map.insert(key, value)),
            Self::Index(items, text) if text == "-" => items.push(value),
            Self::Index(items, text) => {
                // One more place than there are items: the end.
                let at = index(&text, items.len() + 1).ok_or_else(|| format!("no place `{text}` in the list"))?;
                items.insert(at, value);
            }
        }
        Ok(())
    }

    fn replace(self, value: Value) -> Outcome<()> {
        match self {
            Self::Key(map, key) => drop(map.insert(key, value)),
            Self::Index(items, text) => {
                let at = existing(&text, items.len())?;
                items[at] = value;
            }
        }
        Ok(())
    }

    fn remove(self) -> Outcome<Value> {
        match self {
            Self::Key(map, key) => map.remove(&key).ok_or_else(|| format!("no key `{key}`")),
            Self::Index(items, text) => existing(&text, items.len()).map(|at| items.remove(at)),
        }
    }
}

fn existing(text: &str, len: usize) -> Outcome<usize> {
    index(text, len).ok_or_else(|| format!("no item `{text}` in the list"))
}

/// An index below `len`; negative ones count from the end.
fn index(text: &str, len: usize) -> Option<usize> {
    let index: i64 = text.parse().ok()?;
    let len = i64::try_from(len).ok()?;
    let index = if index < 0 { index + len } else { index };
    (0..len).contains(&index).then(|| usize::try_from(index).ok()).flatten()
}

fn unescape(step: &str) -> String {
    // `~01` is `~1`: each tilde is read once, from the left.
    let mut text = String::with_capacity(step.len());
    let mut rest = step;
    while let Some(at) = rest.find('~') {
        let (before, tail) = rest.split_at(at);
        text.push_str(before);
        let (plain, length) = match tail.as_bytes().get(1) {
            Some(b'0') => ("~", 2),
            Some(b'1') => ("/", 2),
            _ => ("~", 1),
        };
        text.push_str(plain);
        rest = &tail[length..];
    }
    text.push_str(rest);
    text
}
