//! The schedules of CronJobs: what the real server's parser says of them.

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

const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule; nothing if it can be followed.
pub(super) fn problem(schedule: &str) -> Option<String> {
    if schedule.contains("TZ") {
        return Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
    }
    if schedule.starts_with('@') {
        return descriptor_problem(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).find_map(|(field, bounds)| field.split(',').find_map(|part| part_problem(part, bounds)))
}

fn descriptor_problem(schedule: &str) -> Option<String> {
    if let Some(duration) = schedule.strip_prefix("@every ") {
        return (!is_duration(duration)).then(|| {
            format!("failed to parse duration {schedule}: time: invalid duration {}", crate::fault::quote(duration))
        });
    }
    (!DESCRIPTORS.contains(&schedule)).then(|| format!("unrecognized descriptor: {schedule}"))
}

/// Go's notation: `1h30m`, `1.5s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = &rest[number..];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].into_iter().filter(|unit| after.starts_with(unit));
        let Some(unit) = unit.max_by_key(|unit| unit.len()) else { return false };
        if rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = &after[unit.len()..];
    }
    true
}

fn part_problem(part: &str, bounds: &Bounds) -> Option<String> {
    let mut by_slash = part.split('/');
    let (range, step, more) = (by_slash.next().unwrap_or_default(), by_slash.next(), by_slash.next());
    let (low, high) = match bounds_of(range, part, bounds) {
        Ok(ends) => ends,
        Err(problem) => return Some(problem),
    };
    let step = match (step, more) {
        (_, Some(_)) => return Some(format!("too many slashes: {part}")),
        (None, None) => 1,
        (Some(step), None) => match number(step) {
            Ok(step) => step,
            Err(problem) => return Some(problem),
        },
    };
    // A single number with a step runs to the end.
    let high =
        if by_slash_had_step(part) && !range.contains('-') && !matches!(range, "*" | "?") { bounds.most } else { high };
    if low < bounds.least {
        return Some(format!("beginning of range ({low}) below minimum ({}): {part}", bounds.least));
    }
    if high > bounds.most {
        return Some(format!("end of range ({high}) above maximum ({}): {part}", bounds.most));
    }
    if low > high {
        return Some(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    (step == 0).then(|| format!("step of range should be a positive number: {part}"))
}

fn by_slash_had_step(part: &str) -> bool {
    part.contains('/')
}

fn bounds_of(range: &str, part: &str, bounds: &Bounds) -> Result<(u32, u32), String> {
    if matches!(range, "*" | "?") {
        return Ok((bounds.least, bounds.most));
    }
    let ends: Vec<&str> = range.split('-').collect();
    let value = |text: &str| match bounds.names.iter().position(|name| *name == text.to_lowercase()) {
        Some(position) => Ok(position as u32 + bounds.least),
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
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            crate::fault::quote(text)
        )),
    }
}

/// What is wrong with the name of a time zone. Whether a well-formed one exists is known to the machine's database alone.
pub(super) fn zone_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("timeZone must be nil or non-empty string".into());
    }
    if name.eq_ignore_ascii_case("local") {
        return Some("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    let known = name == "UTC" || is_known_zone(name);
    (!known).then(|| format!("unknown time zone {name}"))
}

/// Names of zones are compared with their case.
fn is_known_zone(name: &str) -> bool {
    jiff::tz::TimeZoneDatabase::bundled().get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::{problem, zone_problem};

    #[test]
    fn schedules_that_can_be_followed() {
        for schedule in ["* * * * *", "*/5 0-3,7 1 jan-mar MON", "@hourly", "@every 1h30m", "0 0 ? * 5/2"] {
            assert_eq!(problem(schedule), None, "{schedule}");
        }
    }

    #[test]
    fn schedules_that_cannot() {
        for (schedule, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("@often", "unrecognized descriptor: @often"),
        ] {
            assert_eq!(problem(schedule).as_deref(), Some(why), "{schedule}");
        }
    }

    #[test]
    fn zones_are_known_by_their_exact_name() {
        assert_eq!(zone_problem("Europe/Berlin"), None);
        assert_eq!(zone_problem("europe/berlin").as_deref(), Some("unknown time zone europe/berlin"));
        assert!(zone_problem("Local").is_some());
    }
}
