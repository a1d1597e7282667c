use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// The next starts after a moment, as the clock of the zone shows them.
fn starts(schedule: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let (schedule, zone) = (Schedule::parse(schedule).unwrap(), zone(zone_name));
    let mut at: Timestamp = after.parse().unwrap();
    let mut shown = Vec::new();
    while let Some(next) = schedule.next_after(at, &zone)
        && shown.len() < count
    {
        shown.push(next.to_zoned(zone.clone()).strftime("%m-%d %H:%M %z").to_string());
        at = next;
    }
    shown
}

fn check(schedule: &str, expected: &[&str]) {
    let found: Vec<_> = starts(schedule, "UTC", "2026-03-01T10:20:30Z", expected.len());
    let found: Vec<_> = found.iter().map(|start| start.trim_end_matches(" +0000")).collect();
    assert_eq!(found, expected, "{schedule}");
}

#[test]
fn fields_say_when() {
    check("* * * * *", &["03-01 10:21", "03-01 10:22"]);
    check("*/20 * * * *", &["03-01 10:40", "03-01 11:00", "03-01 11:20"]);
    check("50/4 * * * *", &["03-01 10:50", "03-01 10:54", "03-01 10:58", "03-01 11:50"]);
    check("5,10-12 8 * * *", &["03-02 08:05", "03-02 08:10", "03-02 08:11", "03-02 08:12", "03-03 08:05"]);
    check("0 0 29 FEB ?", &["02-29 00:00"]);
    check("0 12 * * mon-wed", &["03-02 12:00", "03-03 12:00", "03-04 12:00", "03-09 12:00"]);
    // Either day will do when both are named, both must hold when one is open.
    check("0 0 4 * fri", &["03-04 00:00", "03-06 00:00", "03-13 00:00"]);
    check("0 0 */2 * fri", &["03-03 00:00", "03-05 00:00", "03-06 00:00"]);
    check("59 23 31 2 *", &[]);
}

#[test]
fn macros_are_schedules() {
    check("@hourly", &["03-01 11:00", "03-01 12:00"]);
    check("@daily", &["03-02 00:00"]);
    check("@weekly", &["03-08 00:00"]);
    check("@monthly", &["04-01 00:00", "05-01 00:00"]);
    check("@yearly", &["01-01 00:00"]);
    check("@every 1h30m", &["03-01 11:50", "03-01 13:20"]);
}

#[test]
fn the_hour_that_is_skipped_in_spring_is_skipped() {
    let starts = starts("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
    assert_eq!(starts, ["03-28 02:30 +0100", "03-30 02:30 +0200", "03-31 02:30 +0200"]);
}

#[test]
fn the_hour_that_comes_twice_in_autumn_is_due_twice() {
    let once = starts("30 2 * * *", "Europe/Berlin", "2026-10-24T20:00:00Z", 3);
    assert_eq!(once, ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-26 02:30 +0100"]);
    let often = starts("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:59:00Z", 6);
    let expected = ["02:00 +0200", "02:30 +0200", "02:00 +0100", "02:30 +0100", "03:00 +0100", "03:30 +0100"];
    assert_eq!(often, expected.map(|time| format!("10-25 {time}")));
}

#[test]
fn half_an_hour_is_a_shift_too() {
    let starts = starts("*/15 1 * * *", "Australia/Lord_Howe", "2026-04-04T13:59:00Z", 6);
    let shown = ["01:00 +1100", "01:15 +1100", "01:30 +1100", "01:45 +1100", "01:30 +1030", "01:45 +1030"];
    assert_eq!(starts, shown.map(|time| format!("04-05 {time}")));
}

#[test]
fn what_is_no_schedule_is_refused_with_the_reason() {
    for (schedule, why) in [
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("@often", "unrecognized descriptor: @often"),
        ("@every often", "failed to parse duration @every often: time: invalid duration \"often\""),
    ] {
        assert_eq!(Schedule::parse(schedule).unwrap_err().to_string(), why, "{schedule}");
    }
}

fn part(least: u32, most: u32) -> impl Strategy<Value = String> {
    let range = (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let single = (least..=most).prop_map(|number| number.to_string());
    let stepped = (1..20_u32).prop_map(|step| format!("*/{step}"));
    prop_oneof![3 => Just("*".to_owned()), 2 => single, 1 => range, 1 => stepped]
}

fn schedules() -> impl Strategy<Value = String> {
    (part(0, 59), part(0, 23), part(1, 28), part(1, 12), part(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

proptest! {
    #[test]
    fn the_next_start_is_the_first_minute_that_matches(text in schedules(), day in 0..1500_i64, minute in 0..1440_i64,
        name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])) {
        let (schedule, zone) = (Schedule::parse(&text).unwrap(), zone(name));
        let Rule::Fields(fields) = &schedule.0 else { unreachable!() };
        let origin = date(2024, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let after = origin + jiff::SignedDuration::from_mins(day * 1440 + minute);
        let matches = |at: Timestamp| {
            let shown = at.to_zoned(zone.clone());
            fields.is_day(shown.date()) && fields.hours.has(shown.hour()) && fields.minutes.has(shown.minute())
        };
        if let Some(next) = schedule.next_after(after, &zone) {
            prop_assert!(next > after);
            prop_assert!(matches(next) && next.as_second() % 60 == 0);
            // Nothing in between: all minutes of the two days before it.
            let minutes = (1..2880).map(|minutes| next - jiff::SignedDuration::from_mins(minutes));
            prop_assert!(!minutes.take_while(|at| *at > after).any(matches));
        }
    }
}
