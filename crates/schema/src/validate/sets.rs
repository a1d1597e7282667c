//! StatefulSets, DaemonSets and ControllerRevisions.

use super::check::{Faults, IMMUTABLE, int_or_percent, not_more_than_100_percent};
use super::cursor::At;
use super::{pod, selector, workloads};
use crate::fault::go_json;

pub(crate) fn stateful_set(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.present_one_of(&spec.get("podManagementPolicy"), &["OrderedReady", "Parallel"]);
    stateful_strategy(f, &spec.get("updateStrategy"));
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"].map(|name| retention.get(name)) {
        f.optional_one_of(&field, &["Retain", "Delete"]);
    }
    f.not_negative(&spec.get("replicas"));
    f.not_negative(&spec.get("minReadySeconds"));
    f.not_negative(&spec.dig(&["ordinals", "start"]));
    let at = spec.get("selector");
    if at.is_set() {
        selector::label_selector(f, &at);
        if selector::is_empty(&at) {
            f.invalid_shown(&at, "{}", "empty selector is invalid for statefulset");
        }
    } else {
        f.required(&at, "");
    }
    if !selector::is_well_formed(&at) {
        f.invalid(&at, "");
    } else {
        workloads::matches_template(f, &spec, at.value);
        // Its containers may mount what only the claims bring, so the pods themselves are checked when they are made.
        pod::template_metadata(f, &spec.get("template"));
    }
    workloads::always_restarted(f, &spec.get("template"), "StatefulSet");
}

fn stateful_strategy(f: &mut Faults, at: &At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.text("type") {
        "" => f.required(at, ""),
        "OnDelete" if rolling.is_set() => {
            f.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            f.not_negative(&rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                int_or_percent(f, &unavailable);
                if workloads::is_nothing(&unavailable) {
                    f.invalid(&unavailable, "cannot be 0");
                }
                not_more_than_100_percent(f, &unavailable);
            }
        }
        _ => {
            f.invalid_shown(at, &go_json(at.value), "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

const STATEFUL_MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(crate) fn stateful_set_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    stateful_set(f, new);
    let fixed = |at: &At<'_>| {
        let mut map = at.map().cloned().unwrap_or_default();
        map.retain(|field, value| !STATEFUL_MUTABLE.contains(&field.as_str()) && !value.is_null());
        map
    };
    let spec = new.get("spec");
    if fixed(&spec) != fixed(&old.get("spec")) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        f.forbidden(&spec, detail);
    }
}

pub(crate) fn stateful_set_status(f: &mut Faults, object: &At<'_>) {
    let fields = ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    workloads::counters(f, object, &fields, &["observedGeneration", "collisionCount"], &fields[1..]);
}

pub(crate) fn daemon_set(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let at = spec.get("selector");
    selector::label_selector(f, &at);
    if selector::is_well_formed(&at) {
        workloads::matches_template(f, &spec, at.value);
        if at.is_set() && selector::is_empty(&at) {
            f.invalid_shown(&at, "{}", "empty selector is invalid for daemonset");
        }
    }
    workloads::replicated_template(f, &spec.get("template"), "DaemonSet");
    daemon_strategy(f, &spec.get("updateStrategy"));
    f.not_negative(&spec.get("minReadySeconds"));
    f.not_negative(&spec.get("revisionHistoryLimit"));
}

fn daemon_strategy(f: &mut Faults, at: &At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => f.required(&rolling, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for bound in [&unavailable, &surge] {
                int_or_percent(f, bound);
                not_more_than_100_percent(f, bound);
            }
            match (workloads::is_nothing(&unavailable), workloads::is_nothing(&surge)) {
                (true, true) => f.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (false, false) => f.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        _ => {
            let shown = crate::go::print("DaemonSetUpdateStrategy", at.value);
            f.unsupported_shown(at, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

pub(crate) fn daemon_set_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    daemon_set(f, new);
    workloads::immutable_selector(f, new, old);
}

pub(crate) fn daemon_set_status(f: &mut Faults, object: &At<'_>) {
    let status = object.get("status");
    for field in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ] {
        f.not_negative(&status.get(field));
    }
}

pub(crate) fn controller_revision(f: &mut Faults, object: &At<'_>) {
    f.not_negative(&object.get("revision"));
    if !object.has("data") {
        f.required(&object.get("data"), "data is mandatory");
    }
}

pub(crate) fn controller_revision_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    controller_revision(f, new);
    if new.get("data").value != old.get("data").value {
        f.invalid(&new.get("data"), IMMUTABLE);
    }
}
