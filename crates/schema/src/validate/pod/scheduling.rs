//! Where a pod may run: affinity, tolerations, spread, gates.

use std::collections::BTreeSet;

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::{names, selector};
use crate::fault::Fault;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(f: &mut Faults, at: &At<'_>) {
    node_affinity(f, &at.get("nodeAffinity"));
    for side in ["podAffinity", "podAntiAffinity"].map(|name| at.get(name)) {
        for term in side.get(REQUIRED).items() {
            pod_affinity_term(f, &term);
        }
        for preference in side.get(PREFERRED).items() {
            weight(f, &preference);
            pod_affinity_term(f, &preference.get("podAffinityTerm"));
        }
    }
}

pub(crate) fn node_affinity(f: &mut Faults, at: &At<'_>) {
    if at.has(REQUIRED) {
        selector::node_selector(f, &at.get(REQUIRED));
    }
    for preference in at.get(PREFERRED).items() {
        weight(f, &preference);
        selector::node_selector_term(f, &preference.get("preference"));
    }
}

fn weight(f: &mut Faults, preference: &At<'_>) {
    let weight = preference.get("weight");
    if !(1..=100).contains(&weight.int_or(0)) {
        f.invalid_value(&weight, weight.int_or(0), "must be in the range 1-100");
    }
}

fn pod_affinity_term(f: &mut Faults, term: &At<'_>) {
    selector::label_selector(f, &term.get("labelSelector"));
    selector::label_selector(f, &term.get("namespaceSelector"));
    for namespace in term.get("namespaces").items() {
        f.problems(&term.get("namespace"), namespace.str(), names::label(namespace.str()));
    }
    let key = term.get("topologyKey");
    if key.is_zero() {
        f.required(&key, "can not be empty");
    }
    f.problems(&key, key.str(), names::qualified(key.str()));
}

pub(super) fn gates(f: &mut Faults, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for gate in at.items() {
        f.problems(&gate, gate.text("name"), names::qualified(gate.text("name")));
        if !seen.insert(gate.text("name")) {
            f.add(Fault::duplicate(gate.path(), gate.text("name")));
        }
    }
}

pub(super) fn topology_spread(f: &mut Faults, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for constraint in at.items() {
        let (skew, key, when) =
            (constraint.get("maxSkew"), constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if skew.int_or(0) <= 0 {
            f.invalid_value(&skew, skew.int_or(0), "must be greater than zero");
        }
        if key.is_zero() {
            f.required(&key, "can not be empty");
        } else {
            f.format(&key, names::qualified);
        }
        f.one_of(&when, &["DoNotSchedule", "ScheduleAnyway"]);
        if !seen.insert((key.str(), when.str())) {
            f.add(Fault::duplicate(constraint.path(), format!("{{{}, {}}}", key.str(), when.str())));
        }
        let domains = constraint.get("minDomains");
        if domains.int().is_some_and(|count| count <= 0) {
            f.invalid(&domains, "must be greater than zero");
        }
        if domains.is_set() && when.str() != "DoNotSchedule" {
            f.invalid(&domains, "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway");
        }
        f.optional_one_of(&constraint.get("nodeAffinityPolicy"), &["Honor", "Ignore"]);
        f.optional_one_of(&constraint.get("nodeTaintsPolicy"), &["Honor", "Ignore"]);
        selector::label_selector(f, &constraint.get("labelSelector"));
    }
}

pub(crate) fn tolerations(f: &mut Faults, at: &At<'_>) {
    for toleration in at.items() {
        let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.text("value"));
        f.optional_format(&key, names::qualified);
        if key.is_zero() && operator.str() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            f.invalid_value(&operator, operator.str(), detail);
        }
        if toleration.has("tolerationSeconds") && toleration.text("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            f.invalid_value(&toleration.get("effect"), toleration.text("effect"), detail);
        }
        match operator.str() {
            "Equal" | "" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    f.invalid_value(&operator, value, problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                f.invalid_value(&operator, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => f.unsupported(&operator, &["Equal", "Exists"]),
        }
        if !toleration.get("effect").is_zero() {
            taint_effect(f, &toleration.get("effect"));
        }
    }
}

pub(crate) fn taint_effect(f: &mut Faults, at: &At<'_>) {
    f.one_of(at, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}
