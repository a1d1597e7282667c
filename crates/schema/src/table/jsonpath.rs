//! The part of kubectl's JSONPath that printer columns use: names, indices, `[*]` and comparisons in `[?()]`.

use serde_json::Value;

/// Longer paths find nothing.
const MAX_STEPS: usize = 64;

/// The first value at `path`; `None` if there is none or the path makes no sense.
pub(super) fn first<'a>(path: &str, object: &'a Value) -> Option<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim();
    for _ in 0..MAX_STEPS {
        if rest.is_empty() || found.is_empty() {
            return found.first().copied();
        }
        let (step, after) = step(rest)?;
        found = found.into_iter().flat_map(|value| apply(&step, value)).collect();
        rest = after;
    }
    None
}

#[derive(Debug)]
enum Step {
    Name(String),
    Index(i64),
    All,
    Filter { path: String, equal: bool, value: String },
}

fn step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let end = bracket_end(rest)?;
        return Some((bracket(rest[..end].trim())?, &rest[end + 1..]));
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => return (!name.is_empty()).then(|| (Step::Name(name), &rest[at..])),
            c => name.push(c),
        }
    }
    Some((if name == "*" { Step::All } else { Step::Name(name) }, ""))
}

/// Where the bracket closes, not counting those inside quotes or inner brackets.
fn bracket_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquote(inside) {
        return Some(Step::Name(name));
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (equal, (path, value)) = match condition.split_once("==") {
            Some(parts) => (true, parts),
            None => (false, condition.split_once("!=")?),
        };
        let value = value.trim();
        let value = unquote(value).unwrap_or_else(|| value.to_owned());
        return Some(Step::Filter { path: path.trim().strip_prefix('@')?.to_owned(), equal, value });
    }
    inside.parse().ok().map(Step::Index)
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.strip_prefix(quote)?.strip_suffix(quote).map(str::to_owned)
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Name(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { length + index } else { *index };
            usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Filter { path, equal, value: wanted }, Value::Array(items)) => {
            let holds = |item: &&Value| first(path, item).is_some_and(|found| (text(found) == *wanted) == *equal);
            items.iter().filter(holds).collect()
        }
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
