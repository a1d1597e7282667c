//! Schedules of five fields, as CronJobs have them: when a start is due in some time zone.
//!
//! A time that the clocks skip is skipped; one that they show twice is due twice.

mod parse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// A schedule that has no start within so many years has none.
const HORIZON_YEARS: i16 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Rule);

/// Why a text is no schedule, in the words of the real API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// `@every`
    Every(Duration),
    Fields(Fields),
}

/// Each field as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Written as `*` or `?`.
    is_any: bool,
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        parse::rule(text).map(Self).map_err(ScheduleError)
    }

    /// The first start after a moment.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Rule::Every(period) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*period).ok(),
            Rule::Fields(fields) => fields.next_after(after, zone),
        }
    }
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }
}

impl Fields {
    fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = after.to_zoned(zone.clone()).date();
        let last = first.checked_add(jiff::Span::new().years(HORIZON_YEARS)).ok()?;
        let days = first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last);
        days.filter(|day| self.is_day(*day)).find_map(|day| self.next_on(day, after, zone))
    }

    /// Where both kinds of day are limited, either will do.
    fn is_day(&self, day: Date) -> bool {
        let by_month = self.days.has(day.day());
        let by_week = self.weekdays.has(day.weekday().to_sunday_zero_offset());
        let is_named = if self.days.is_any || self.weekdays.is_any { by_month && by_week } else { by_month || by_week };
        self.months.has(day.month()) && is_named
    }

    fn next_on(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let hours = (0..24).filter(|hour| self.hours.has(*hour));
        // An hour whose last minute is over for good needs no closer look.
        let is_over = |hour: i8| instants(day.at(hour, 59, 0, 0), zone).into_iter().flatten().all(|at| at < after);
        let mut soonest: Option<Timestamp> = None;
        for hour in hours.filter(|hour| !is_over(*hour) || zone_is_shifting(day, *hour, zone)) {
            for minute in (0..60).filter(|minute| self.minutes.has(*minute)) {
                let [early, late] = instants(day.at(hour, minute, 0, 0), zone);
                let is_ahead = |at: &Timestamp| *at > after;
                soonest = [soonest, early.filter(is_ahead), late.filter(is_ahead)].into_iter().flatten().min();
                // Whatever the clock shows later than this also comes later.
                if early.is_some_and(|at| at > after) {
                    return soonest;
                }
            }
        }
        soonest
    }
}

/// The clock jumps within this hour, so that its last minute says nothing about the others.
fn zone_is_shifting(day: Date, hour: i8, zone: &TimeZone) -> bool {
    let is_usual = |minute: i8| {
        matches!(zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0)).offset(), AmbiguousOffset::Unambiguous { .. })
    };
    !(is_usual(0) && is_usual(59))
}

/// When a clock on the wall shows this: never, once, or twice.
fn instants(shown: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    match zone.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(shown).ok(), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [before.to_timestamp(shown).ok(), after.to_timestamp(shown).ok()],
    }
}
