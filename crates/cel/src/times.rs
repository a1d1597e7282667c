//! Times and durations: reading them from text, showing them, and asking for their parts in a time zone.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube_cel::cel::Value;
use regex::Regex;

use crate::eval::{NO_OVERLOAD, Run};
use crate::functions::library;

/// What Go reads as a duration; `kube-cel` would also take what only begins like one.
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$")
        .expect("the pattern is valid")
});

/// A duration as Go writes it, `1h30m`.
pub fn duration_from_text(text: &str) -> Option<Value> {
    if !DURATION.is_match(text) {
        return None;
    }
    library(None, "duration", None, vec![Value::String(Arc::new(text.trim_start_matches('+').to_owned()))]).ok()
}

/// A time by RFC 3339; a date alone is its midnight.
pub fn timestamp_from_text(text: &str) -> Option<Value> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    library(None, "timestamp", None, vec![Value::String(Arc::new(whole))]).ok()
}

pub(crate) fn timestamp_from_seconds(seconds: i64) -> Run {
    let time = Timestamp::from_second(seconds).map_err(|_| "timestamp overflow".to_owned())?;
    timestamp_from_text(&time.to_string()).ok_or_else(|| "timestamp overflow".to_owned())
}

/// A time or a duration as text; `None` for other values.
pub(crate) fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Timestamp(time) => Some(time.to_utc().to_rfc3339().replace("+00:00", "Z")),
        // Seconds, as whole as they are.
        Value::Duration(time) => Some(format!("{}s", time.num_nanoseconds()? as f64 / 1e9)),
        _ => None,
    }
}

/// `getHours` and its like, of a time in a zone (UTC where none is named) or of a duration.
pub(crate) fn part(name: &str, of: &Value, zone: Option<&Value>) -> Run {
    let time = match of {
        Value::Duration(time) => return duration_part(name, time.num_milliseconds()),
        Value::Timestamp(time) => time,
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    let zone = match zone {
        None => TimeZone::UTC,
        Some(Value::String(name)) => zone_named(name)?,
        Some(_) => return Err(NO_OVERLOAD.to_owned()),
    };
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).map_err(|_| NO_OVERLOAD.to_owned())?;
    let time = Timestamp::new(time.timestamp(), nanos).map_err(|error| error.to_string())?.to_zoned(zone);
    let part = match name {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    Ok(Value::Int(part))
}

fn duration_part(name: &str, millis: i64) -> Run {
    match name {
        "getHours" => Ok(Value::Int(millis / 3_600_000)),
        "getMinutes" => Ok(Value::Int(millis / 60_000)),
        "getSeconds" => Ok(Value::Int(millis / 1000)),
        "getMilliseconds" => Ok(Value::Int(millis % 1000)),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

/// `Europe/Berlin`, or a distance from UTC, `-08:30`.
fn zone_named(name: &str) -> Run<TimeZone> {
    let unknown = || format!("unknown time zone {name}");
    let Some((hours, minutes)) = name.split_once(':') else { return TimeZone::get(name).map_err(|_| unknown()) };
    let sign = if hours.starts_with('-') { -1 } else { 1 };
    let number = |text: &str| text.trim_start_matches(['+', '-']).parse::<i32>().map_err(|_| unknown());
    let seconds = sign * (number(hours)? * 3600 + number(minutes)? * 60);
    jiff::tz::Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| unknown())
}
