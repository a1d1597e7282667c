//! Times and durations as Go reads and writes them, errors included.

use jiff::{Timestamp, civil, tz::Offset};

/// `metav1.Time`: any fraction is read, whole seconds are kept.
pub(super) fn time(text: &str) -> Result<String, String> {
    let read = read(
        text,
        "2006-01-02T15:04:05Z07:00",
        &["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", "Z07:00"],
    )?;
    Ok(read.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `metav1.MicroTime`: exactly six digits of a second.
pub(super) fn micro_time(text: &str) -> Result<String, String> {
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    let read =
        read(text, layout, &["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05", ".000000", "Z07:00"])?;
    Ok(read.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

#[derive(Default)]
struct Parts {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    offset_seconds: i32,
}

fn read(text: &str, layout: &str, elements: &[&str]) -> Result<Timestamp, String> {
    let cannot = |rest: &str, element: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    };
    let range = |what: &str| format!("parsing time {text:?}: {what} out of range");
    let mut parts = Parts::default();
    let mut rest = text;
    for element in elements {
        let before = rest;
        rest = element_of(element, rest, &mut parts).ok_or_else(|| cannot(before, element))?;
        // RFC 3339 seconds may carry a fraction that the layout does not name.
        if *element == "05" && !elements.contains(&".000000") {
            rest = any_fraction(rest, &mut parts.nanos);
        }
        match *element {
            "01" if !(1..=12).contains(&parts.month) => return Err(range("month")),
            "15" if parts.hour > 23 => return Err(range("hour")),
            "04" if parts.minute > 59 => return Err(range("minute")),
            "05" if parts.second > 59 => return Err(range("second")),
            _ => {}
        }
    }
    if !rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {rest:?}"));
    }
    let date = civil::Date::new(parts.year, parts.month, parts.day).map_err(|_| range("day"))?;
    let time = civil::Time::new(parts.hour, parts.minute, parts.second, parts.nanos).map_err(|_| range("second"))?;
    let offset = Offset::from_seconds(parts.offset_seconds).map_err(|_| range("time zone offset hour"))?;
    offset.to_timestamp(date.to_datetime(time)).map_err(|_| range("year"))
}

fn element_of<'a>(element: &str, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    let two = |text: &'a str| -> Option<(i8, &'a str)> {
        let digits = text.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        Some((digits.parse().ok()?, &text[2..]))
    };
    match element {
        "2006" => {
            let digits = text.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
            parts.year = digits.parse().ok()?;
            Some(&text[4..])
        }
        "01" => two(text).map(|(n, rest)| (parts.month = n, rest).1),
        "02" => two(text).map(|(n, rest)| (parts.day = n, rest).1),
        "15" => two(text).map(|(n, rest)| (parts.hour = n, rest).1),
        "04" => two(text).map(|(n, rest)| (parts.minute = n, rest).1),
        "05" => two(text).map(|(n, rest)| (parts.second = n, rest).1),
        ".000000" => {
            let digits = text.get(..7)?.strip_prefix('.').filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
            parts.nanos = digits.parse::<i32>().ok()? * 1000;
            Some(&text[7..])
        }
        "Z07:00" => {
            if let Some(rest) = text.strip_prefix('Z') {
                return Some(rest);
            }
            let sign = match text.bytes().next()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, rest) = two(&text[1..])?;
            let (minutes, rest) = two(rest.strip_prefix(':')?)?;
            parts.offset_seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
            Some(rest)
        }
        literal => text.strip_prefix(literal),
    }
}

/// `.123` after the seconds, as far as nanoseconds go.
fn any_fraction<'a>(text: &'a str, nanos: &mut i32) -> &'a str {
    let Some(digits) = text.strip_prefix(['.', ',']) else { return text };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return text;
    }
    let kept: String = digits[..count.min(9)].chars().chain("000000000".chars()).take(9).collect();
    *nanos = kept.parse().unwrap_or(0);
    &digits[count..]
}

/// `metav1.Duration`: Go's notation, written back in its canonical form.
pub(super) fn duration(text: &str) -> Result<String, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok("0s".to_owned());
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (digits, after) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || digits.len() > 30 {
            return Err(bad());
        }
        let unit_length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        total = whole.checked_mul(nanos).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        let mut scale = nanos;
        for digit in fraction.bytes() {
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        rest = after;
    }
    let nanos = i64::try_from(if negative { -total } else { total }).map_err(|_| bad())?;
    Ok(print_duration(nanos))
}

/// How Go prints a duration: `1h0m0s`, `1.5s`, `20ms`.
pub(crate) fn print_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let trimmed = |value: u64, unit: u64| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", trimmed(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", trimmed(n, 1_000_000)),
        _ => {
            let minutes = n / 60_000_000_000;
            let seconds = trimmed(n % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_refused_as_in_go() {
        assert_eq!(time("2024-01-02T03:04:05.9+02:00").as_deref(), Ok("2024-01-02T01:04:05Z"));
        assert_eq!(micro_time("2024-01-02T03:04:05.123456Z").as_deref(), Ok("2024-01-02T03:04:05.123456Z"));
        let error = micro_time("2024-01-01T00:00:00Z").expect_err("no fraction");
        let expected = r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#;
        assert_eq!(error, expected);
        let error = time("yesterday").expect_err("no year");
        assert_eq!(
            error,
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#
        );
        assert_eq!(
            time("2024-13-01T00:00:00Z"),
            Err(r#"parsing time "2024-13-01T00:00:00Z": month out of range"#.into())
        );
    }

    #[test]
    fn durations_print_as_in_go() {
        for (text, printed) in [("90m", "1h30m0s"), ("1.5s", "1.5s"), ("20ms", "20ms"), ("-1h", "-1h0m0s"), ("0", "0s")]
        {
            assert_eq!(duration(text).as_deref(), Ok(printed));
        }
        assert!(duration("1").is_err() && duration("x").is_err() && duration("1y").is_err());
    }
}
