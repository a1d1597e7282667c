//! Which start of a CronJob is due now, and when to look again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sluice_model::schedule::Schedule;

/// So many missed starts are told to the user: a clock may be wrong, or the CronJob was suspended for long.
const MANY: i64 = 100;
/// Starts looked at one after the other; a schedule with more of them catches up in the next passes.
const STEPS_MAX: usize = 10_000;
/// Looking again exactly at the time might find the clock just before it.
const MARGIN: Duration = Duration::from_millis(100);

/// What starts are reckoned from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) created: Timestamp,
    pub(super) last_start: Option<Timestamp>,
    /// Starts later than this after their time are left out.
    pub(super) deadline: Option<Duration>,
}

/// The newest start that was to be made by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) after_many_missed: bool,
}

struct Reckoning {
    from: Timestamp,
    newest: Option<Timestamp>,
    missed: i64,
}

pub(super) fn due(schedule: &Schedule, zone: &TimeZone, since: Since, now: Timestamp) -> Option<Due> {
    let reckoning = reckon(schedule, zone, since, now);
    let at = reckoning.newest?;
    Some(Due { at, after_many_missed: reckoning.missed > MANY })
}

/// How long until the next start.
pub(super) fn until_next(schedule: &Schedule, zone: &TimeZone, since: Since, now: Timestamp) -> Option<Duration> {
    let reckoning = reckon(schedule, zone, Since { deadline: None, ..since }, now);
    let from = match reckoning.newest {
        Some(newest) => newest,
        None if reckoning.missed == 0 => reckoning.from,
        None => now,
    };
    let next = schedule.next_after(from, zone)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + MARGIN)
}

fn reckon(schedule: &Schedule, zone: &TimeZone, since: Since, now: Timestamp) -> Reckoning {
    let mut from = since.last_start.unwrap_or(since.created);
    let oldest = since.deadline.and_then(|deadline| now.checked_sub(deadline).ok());
    if let Some(oldest) = oldest {
        from = from.max(oldest);
    }
    let none = Reckoning { from, newest: None, missed: 0 };
    let Some(first) = schedule.next_after(from, zone).filter(|first| *first <= now) else { return none };
    let Some(second) = schedule.next_after(first, zone).filter(|second| *second <= now) else {
        return Reckoning { newest: Some(first), missed: 1, ..none };
    };
    // From the distance of the first two, not one by one: there may be millions.
    let distance = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / distance + 1;
    let near = first.as_second() + (missed - 2) * distance;
    let near = Timestamp::from_second(near).unwrap_or(first);
    let starts_after = |at: Timestamp| {
        let next = move |at: &Timestamp| schedule.next_after(*at, zone).filter(|next| *next <= now);
        std::iter::successors(next(&at), next).take(STEPS_MAX)
    };
    // An uneven schedule may have its last start long before.
    let newest = starts_after(near).last().or_else(|| starts_after(first).last());
    Reckoning { from, newest, missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn check(
        schedule: &str,
        last_start: Option<&str>,
        deadline: Option<u64>,
        now: &str,
        expected: Option<(&str, bool)>,
    ) {
        let schedule = Schedule::parse(schedule).unwrap();
        let deadline = deadline.map(Duration::from_secs);
        let since = Since { created: at("00:00:30"), last_start: last_start.map(at), deadline };
        let expected = expected.map(|(time, after_many_missed)| Due { at: at(time), after_many_missed });
        assert_eq!(due(&schedule, &TimeZone::UTC, since, at(now)), expected, "{now}");
    }

    #[test]
    fn the_newest_start_is_due() {
        let (minutely, hourly) = ("* * * * *", "0 * * * *");
        check(minutely, None, None, "00:00:59", None);
        check(minutely, None, None, "00:01:00", Some(("00:01:00", false)));
        check(minutely, Some("00:01:00"), None, "00:01:30", None);
        check(minutely, Some("00:01:00"), None, "00:05:30", Some(("00:05:00", false)));
        check(minutely, None, None, "05:00:10", Some(("05:00:00", true)));
        check(hourly, None, None, "05:00:10", Some(("05:00:00", false)));
        check("0 3,4 * * *", None, None, "23:00:00", Some(("04:00:00", false)));
        check("@every 90m", Some("00:10:00"), None, "04:00:00", Some(("03:10:00", false)));
    }

    #[test]
    fn a_deadline_forgets_what_is_too_old() {
        check("* * * * *", None, Some(200), "05:00:10", Some(("05:00:00", false)));
        check("0 * * * *", None, Some(60), "05:01:30", None);
        check("0 * * * *", None, Some(60), "05:00:30", Some(("05:00:00", false)));
    }

    #[test]
    fn the_next_look_is_at_the_next_start() {
        let schedule = Schedule::parse("0 * * * *").unwrap();
        let since = Since { created: at("00:00:30"), last_start: None, deadline: None };
        let wait = |now: &str| until_next(&schedule, &TimeZone::UTC, since, at(now));
        assert_eq!(wait("00:30:00"), Some(Duration::from_secs(1800) + MARGIN));
        assert_eq!(wait("07:59:59"), Some(Duration::from_secs(1) + MARGIN));
        let never = Schedule::parse("0 0 31 2 *").unwrap();
        assert_eq!(until_next(&never, &TimeZone::UTC, since, at("01:00:00")), None);
    }
}
