//! The text of a schedule.

use std::time::Duration;

use super::{Field, Fields, Rule};

/// One of the five fields: its bounds and the names its numbers have.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 23, names: &[] },
    Bounds { least: 1, most: 31, names: &[] },
    Bounds { least: 1, most: 12, names: MONTHS },
    Bounds { least: 0, most: 6, names: DAYS },
];

/// `@every` runs at most once a second.
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) fn rule(schedule: &str) -> Result<Rule, String> {
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let [minutes, hours, days, months, weekdays] = std::array::from_fn(|at| field(fields[at], &FIELDS[at]));
    Ok(Rule::Fields(Fields { minutes: minutes?, hours: hours?, days: days?, months: months?, weekdays: weekdays? }))
}

fn descriptor(schedule: &str) -> Result<Rule, String> {
    if let Some(text) = schedule.strip_prefix("@every ") {
        let period = duration(text);
        let period =
            period.ok_or_else(|| format!("failed to parse duration {schedule}: time: invalid duration {text:?}"))?;
        return Ok(Rule::Every(Duration::from_secs(period.as_secs()).max(SHORTEST)));
    }
    let fields = match schedule {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(format!("unrecognized descriptor: {schedule}")),
    };
    rule(fields)
}

/// Go's notation: `1h30m`, `1.5s`. What is negative is nothing.
fn duration(text: &str) -> Option<Duration> {
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() && rest != "0" {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = &rest[number..];
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let fitting = units.into_iter().filter(|(unit, _)| after.starts_with(unit));
        let (unit, worth) = fitting.max_by_key(|(unit, _)| unit.len())?;
        seconds += rest[..number].parse::<f64>().ok()? * worth;
        rest = &after[unit.len()..];
    }
    if is_negative { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).ok() }
}

fn field(text: &str, bounds: &Bounds) -> Result<Field, String> {
    let mut field = Field { bits: 0, is_any: false };
    for part in text.split(',') {
        let part = read_part(part, bounds)?;
        field.bits |= part.bits;
        field.is_any |= part.is_any;
    }
    Ok(field)
}

fn read_part(part: &str, bounds: &Bounds) -> Result<Field, String> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    let (low, high) = ends(range, part, bounds)?;
    if step.is_some_and(|step| step.contains('/')) {
        return Err(format!("too many slashes: {part}"));
    }
    let stride = step.map_or(Ok(1), number)?;
    let is_any = matches!(range, "*" | "?");
    // A single number with a step runs to the end.
    let high = if step.is_some() && !range.contains('-') && !is_any { bounds.most } else { high };
    if low < bounds.least {
        return Err(format!("beginning of range ({low}) below minimum ({}): {part}", bounds.least));
    }
    if high > bounds.most {
        return Err(format!("end of range ({high}) above maximum ({}): {part}", bounds.most));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    if stride == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let bits = (low..=high).step_by(stride as usize).fold(0, |bits, number| bits | 1 << number);
    Ok(Field { bits, is_any: is_any && stride == 1 })
}

fn ends(range: &str, part: &str, bounds: &Bounds) -> Result<(u32, u32), String> {
    if matches!(range, "*" | "?") {
        return Ok((bounds.least, bounds.most));
    }
    let ends: Vec<&str> = range.split('-').collect();
    let value = |text: &str| match (bounds.least..).zip(bounds.names).find(|(_, name)| **name == text.to_lowercase()) {
        Some((value, _)) => Ok(value),
        None => number(text),
    };
    match ends.as_slice() {
        [single] => value(single).map(|n| (n, n)),
        [from, to] => Ok((value(from)?, value(to)?)),
        _ => Err(format!("too many hyphens: {part}")),
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {text}")),
        Ok(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}
