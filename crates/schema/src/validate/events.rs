//! Events and Leases.

use super::check::{Faults, IMMUTABLE};
use super::cursor::At;
use super::names;

pub(crate) fn lease(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        f.invalid(&duration, "must be greater than 0");
    }
    f.not_negative(&spec.get("leaseTransitions"));
}

const MESSAGE_MAX: usize = 1024;
const NAME_MAX: usize = 128;

/// Events as recorders wrote them before `events.k8s.io`: hardly anything is checked.
pub(crate) fn core_event(f: &mut Faults, event: &At<'_>) {
    let object = event.get("involvedObject");
    let (of_event, of_object) = (event.get("metadata").text("namespace"), object.get("namespace"));
    let fits = match of_object.str() {
        "" => matches!(of_event, "" | "default"),
        namespace => namespace == of_event,
    };
    if !fits {
        f.invalid_value(&of_object, of_object.str(), "does not match event.namespace");
    }
    if !event.get("eventTime").is_zero() {
        reported(f, event, "reportingComponent", "message");
    }
}

/// `events.k8s.io/v1`.
pub(crate) fn event(f: &mut Faults, event: &At<'_>) {
    let time = event.get("eventTime");
    if time.is_zero() {
        f.required(&time, "");
    } else {
        reported(f, event, "reportingController", "note");
    }
    if !matches!(event.text("type"), "Normal" | "Warning") {
        f.invalid_value(&event.get("type"), "", format!("has invalid value: {}", event.text("type")));
    }
}

fn reported(f: &mut Faults, event: &At<'_>, controller: &'static str, message: &'static str) {
    let shown = event.get("reportingController").with(event.get(controller).value);
    f.present_format(&shown, names::qualified);
    for (name, most) in [("reportingInstance", NAME_MAX), ("action", NAME_MAX), ("reason", NAME_MAX)] {
        let at = event.get(name);
        f.present(&at);
        if at.str().len() > most {
            f.invalid_value(&at, "", format!("can have at most {most} characters"));
        }
    }
    if event.text(message).len() > MESSAGE_MAX {
        f.invalid_value(&event.get("message"), "", format!("can have at most {MESSAGE_MAX} characters"));
    }
}

/// What a new-style event may not change, with the names its faults carry.
const FIXED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

pub(crate) fn event_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    event(f, new);
    for (field, shown) in FIXED {
        let (value, before) = (new.get(field), old.get(field));
        if value.value != before.value && !(value.is_zero() && before.is_zero()) {
            f.invalid(&new.get(shown).with(value.value), IMMUTABLE);
        }
    }
}
