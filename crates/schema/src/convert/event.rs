//! `v1` and `events.k8s.io/v1`: one resource, two vocabularies.

use super::{Object, rename};

/// Words of the core group, and of the group `events.k8s.io`.
const WORDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn to_events_group(fields: &mut Object) {
    WORDS.iter().for_each(|(core, events)| rename(fields, core, events));
}

pub(super) fn to_core(fields: &mut Object) {
    WORDS.iter().for_each(|(core, events)| rename(fields, events, core));
}
