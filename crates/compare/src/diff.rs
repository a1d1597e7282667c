//! Where two answers differ.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{Answer, Body};
use crate::decode::decoded;
use crate::json::Walk;
use crate::redact::{HIDDEN, shown};
use crate::rules::Rules;

/// Differences that one comparison names; the rest is not looked for.
pub(crate) const MOST_DIFFERENCES: usize = 64;

/// How two answers differ in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `status`, `header:NAME`, `json:$.PATH` without indices, `text` or `bytes`.
    pub path: String,
    pub kind: Kind,
    /// What each has there, as far as it may be seen.
    pub stable: String,
    pub candidate: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Value,
    Type,
    /// The candidate lacks it.
    Missing,
    /// The candidate has it alone.
    Extra,
    /// Lists of different lengths.
    Length,
    /// The same items, in another order.
    Order,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub differences: Vec<Difference>,
    /// Not everything was looked at: there were too many differences, or the answers are too large to be gone through.
    pub is_partial: bool,
}

/// Holds the candidate's answer against the stable version's.
pub fn compare(stable: &Answer, candidate: &Answer, rules: &Rules) -> Comparison {
    let mut found = Comparison::default();
    if rules.status_counts && stable.status != candidate.status {
        let (stable, candidate) = (stable.status.to_string(), candidate.status.to_string());
        found.differences.push(Difference { path: "status".to_owned(), kind: Kind::Value, stable, candidate });
    }
    compare_headers(stable, candidate, rules, &mut found);
    if rules.body_counts {
        compare_bodies(stable, candidate, rules, &mut found);
    }
    found.is_partial |= found.differences.len() > MOST_DIFFERENCES;
    found.differences.truncate(MOST_DIFFERENCES);
    found
}

fn compare_headers(stable: &Answer, candidate: &Answer, rules: &Rules, found: &mut Comparison) {
    let mut names: Vec<&str> = stable.headers.iter().chain(&candidate.headers).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| rules.compares(name)) {
        let values = |answer: &Answer| -> Vec<Vec<u8>> {
            let of = answer.headers.iter().filter(|(known, _)| known == name);
            of.map(|(_, value)| value.trim_ascii().to_vec()).collect()
        };
        let (ours, theirs) = (values(stable), values(candidate));
        let kind = match (ours.is_empty(), theirs.is_empty()) {
            _ if ours == theirs => continue,
            (false, true) => Kind::Missing,
            (true, false) => Kind::Extra,
            _ => Kind::Value,
        };
        let show = |values: &[Vec<u8>]| match values {
            [] => String::new(),
            _ if rules.redaction.hides(name) => HIDDEN.to_owned(),
            values => shown(&String::from_utf8_lossy(&values.join(&b", "[..]))),
        };
        let (stable, candidate) = (show(&ours), show(&theirs));
        found.differences.push(Difference { path: format!("header:{name}"), kind, stable, candidate });
    }
}

fn compare_bodies(stable: &Answer, candidate: &Answer, rules: &Rules, found: &mut Comparison) {
    let encodings = [stable, candidate].map(|answer| answer.header("content-encoding"));
    let plain = (decoded(&stable.body, encodings[0]), decoded(&candidate.body, encodings[1]));
    match plain {
        (Some(ours), Some(theirs)) => compare_plain(stable, candidate, [&ours, &theirs], rules, found),
        // The same to the last byte, whatever that means.
        _ if encodings[0] == encodings[1] => {
            if stable.body != candidate.body {
                found.differences.push(bytes_differ([&stable.body, &candidate.body]));
            }
        }
        _ => found.is_partial = true,
    }
}

/// What a body is held to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Bytes,
}

fn form(content_type: Option<&str>) -> Option<Form> {
    let name = content_type?.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = name.starts_with("text/") || name.ends_with("xml") || name.ends_with("javascript");
    Some(match name.as_str() {
        "application/json" => Form::Json,
        name if name.ends_with("+json") => Form::Json,
        _ if is_text => Form::Text,
        _ => Form::Bytes,
    })
}

fn compare_plain(stable: &Answer, candidate: &Answer, bodies: [&Body; 2], rules: &Rules, found: &mut Comparison) {
    let [Body::Kept(ours), Body::Kept(theirs)] = bodies else {
        if bodies[0] != bodies[1] {
            found.differences.push(bytes_differ(bodies));
        }
        return;
    };
    if ours == theirs {
        return;
    }
    let [one, other] = [stable, candidate].map(|answer| form(answer.header("content-type")));
    // Types that differ are a difference of their own; the stable version's says what the bodies are.
    match one.or(other) {
        Some(Form::Json) => compare_json([ours, theirs], rules, found),
        Some(Form::Text) => found.differences.extend(text_differs([ours, theirs])),
        Some(Form::Bytes) => found.differences.push(bytes_differ(bodies)),
        None if is_json(ours) && is_json(theirs) => compare_json([ours, theirs], rules, found),
        None => found.differences.push(bytes_differ(bodies)),
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object() || value.is_array())
}

fn compare_json(bodies: [&[u8]; 2], rules: &Rules, found: &mut Comparison) {
    let [ours, theirs] = bodies.map(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            let mut walk = Walk::new(rules, MOST_DIFFERENCES - found.differences.len().min(MOST_DIFFERENCES));
            walk.go(&ours, &theirs);
            found.is_partial |= walk.is_partial;
            found.differences.append(&mut walk.found);
        }
        (ours, theirs) => {
            let show = |value: &Option<Value>| if value.is_some() { "JSON" } else { "not JSON" }.to_owned();
            if ours.is_none() && theirs.is_none() {
                found.differences.extend(text_differs(bodies));
                return;
            }
            let (stable, candidate) = (show(&ours), show(&theirs));
            found.differences.push(Difference { path: "json:$".to_owned(), kind: Kind::Type, stable, candidate });
        }
    }
}

/// Where the first line is that differs, and nothing of what it says: nobody knows what is secret in a text. Ends of lines do not count.
fn text_differs(bodies: [&[u8]; 2]) -> Option<Difference> {
    let [ours, theirs] = bodies.map(|bytes| bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end));
    let lines = [ours.clone().count(), theirs.clone().count()];
    let alike = ours.zip(theirs).take_while(|(one, other)| one == other).count();
    if alike == lines[0] && alike == lines[1] {
        return None;
    }
    let show = |at: usize| format!("{} bytes, line {} of {} differs", bodies[at].len(), alike + 1, lines[at]);
    Some(Difference { path: "text".to_owned(), kind: Kind::Value, stable: show(0), candidate: show(1) })
}

fn bytes_differ(bodies: [&Body; 2]) -> Difference {
    let [stable, candidate] = bodies.map(|body| match body {
        Body::Kept(bytes) => format!("{} bytes", bytes.len()),
        Body::Fingerprint { length, sha256 } => {
            format!("{length} bytes, sha256 {:02x}{:02x}{:02x}{:02x}..", sha256[0], sha256[1], sha256[2], sha256[3])
        }
    });
    Difference { path: "bytes".to_owned(), kind: Kind::Value, stable, candidate }
}

#[cfg(test)]
mod tests;
