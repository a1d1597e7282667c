//! What cells are made of: texts, numbers, ages, lists that end in `+ 2 more...`.

use jiff::Timestamp;
use serde_json::Value;

/// An object and the time it is looked at.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) value: &'a Value,
    pub(super) now: Timestamp,
}

impl<'a> Object<'a> {
    pub(super) fn at(self, pointer: &str) -> &'a Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Empty where there is none.
    pub(super) fn text(self, pointer: &str) -> &'a str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    pub(super) fn text_or(self, pointer: &str, default: &'a str) -> Value {
        self.at(pointer).as_str().filter(|text| !text.is_empty()).unwrap_or(default).into()
    }

    pub(super) fn number(self, pointer: &str) -> i64 {
        self.at(pointer).as_i64().unwrap_or(0)
    }

    pub(super) fn int(self, pointer: &str) -> Value {
        self.number(pointer).into()
    }

    pub(super) fn flag(self, pointer: &str, default: bool) -> Value {
        self.at(pointer).as_bool().unwrap_or(default).into()
    }

    pub(super) fn list(self, pointer: &str) -> &'a [Value] {
        items(self.at(pointer))
    }

    pub(super) fn name(self) -> Value {
        self.text("/metadata/name").into()
    }

    pub(super) fn age(self) -> Value {
        self.since("/metadata/creationTimestamp").into()
    }

    /// How long ago the time at `pointer` was.
    pub(super) fn since(self, pointer: &str) -> String {
        since(self.at(pointer), self.now)
    }

    pub(super) fn is_leaving(self) -> bool {
        self.at("/metadata/deletionTimestamp").is_string()
    }

    pub(super) fn has_condition(self, kind: &str) -> bool {
        self.list("/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
    }
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn since(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => human_duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds as people read them: the two highest units at most, fewer the longer it is.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        small => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match seconds {
        // Clocks of two machines may differ by a moment.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// Names and images of the containers at `pointer`.
pub(super) fn containers(object: Object<'_>, pointer: &str) -> [Value; 2] {
    let joined = |field: &str| {
        let parts: Vec<&str> = object.list(pointer).iter().map(|c| c[field].as_str().unwrap_or_default()).collect();
        Value::from(parts.join(","))
    };
    [joined("name"), joined("image")]
}

/// `a=b,c=d`.
pub(super) fn labels(value: &Value) -> String {
    let labels = value.as_object().into_iter().flatten();
    let parts: Vec<String> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    none_if_empty(parts.join(","))
}

pub(super) fn none_if_empty(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// A label selector in the notation of the command line; empty if it selects everything or nothing.
pub(super) fn selector(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = value["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<(String, String)> = labels.map(|(k, v)| (k.clone(), format!("{k}={}", text(v)))).collect();
    for expression in items(&value["matchExpressions"]) {
        let key = text(&expression["key"]);
        let mut values: Vec<String> = items(&expression["values"]).iter().map(text).collect();
        values.sort();
        let values = values.join(",");
        let part = match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        };
        parts.push((key, part));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(",")
}

/// The first of many, and how many there are besides.
pub(super) fn first_of(shown: &[String], all: usize, most: usize) -> String {
    let list = shown[..shown.len().min(most)].join(",");
    if all > most { format!("{list} + {} more...", all - most) } else { list }
}

/// A number or a text, as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
