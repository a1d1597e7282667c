//! The schedules of CronJobs: what the real server's parser says of them.

use sluice_model::schedule::Schedule;

/// What is wrong with a schedule; nothing if it can be followed.
pub(super) fn problem(schedule: &str) -> Option<String> {
    if schedule.contains("TZ") {
        return Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
    }
    Schedule::parse(schedule).err().map(|error| error.to_string())
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
    fn zones_have_no_place_in_a_schedule() {
        assert_eq!(problem("*/5 0-3,7 1 jan-mar MON"), None);
        assert_eq!(problem("60 * * * *").as_deref(), Some("end of range (60) above maximum (59): 60"));
        assert!(problem("CRON_TZ=UTC * * * * *").is_some());
    }

    #[test]
    fn zones_are_known_by_their_exact_name() {
        assert_eq!(zone_problem("Europe/Berlin"), None);
        assert_eq!(zone_problem("europe/berlin").as_deref(), Some("unknown time zone europe/berlin"));
        assert!(zone_problem("Local").is_some());
    }
}
