//! Jobs and CronJobs.

use std::collections::BTreeSet;

use super::check::{Faults, IMMUTABLE};
use super::cursor::At;
use super::{cron, names, pod, selector, workloads};
use crate::fault::{Fault, FaultKind, go_json, quote};

const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const ONLY_INDEXED: &str = "requires indexed completion mode";
const POLICY_RULES_MAX: usize = 20;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];

pub(crate) fn job(f: &mut Faults, object: &At<'_>) {
    generated_selector(f, object);
    let spec = object.get("spec");
    whole_spec(f, &spec);
    let completions = spec.get("completions").int_or(0);
    if spec.text("completionMode") == "Indexed" && completions > 0 {
        let name = object.get("metadata").text("name");
        let hostname = format!("{name}-{}", completions - 1);
        if !names::label(&hostname).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            f.invalid(&object.dig(&["metadata", "name"]), detail);
        }
    }
}

/// The labels and the selector that the server makes must be there as it made them.
fn generated_selector(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let at = spec.get("selector");
    if spec.get("manualSelector").bool() || !at.is_set() {
        return;
    }
    let meta = object.get("metadata");
    let labels = spec.dig(&["template", "metadata", "labels"]);
    let expected = [
        ("controller-uid", meta.text("uid")),
        ("job-name", meta.text("name")),
        ("batch.kubernetes.io/controller-uid", meta.text("uid")),
        ("batch.kubernetes.io/job-name", meta.text("name")),
    ];
    for (key, value) in expected {
        let label = labels.key(key);
        if !label.is_set() {
            f.required(&label, format!("must be '{value}'"));
        } else if label.str() != value {
            f.invalid_value(&label, labels.value.clone(), format!("must be '{value}'"));
        }
    }
    let made = serde_json::json!({
        "controller-uid": meta.text("uid"), "batch.kubernetes.io/controller-uid": meta.text("uid"),
    });
    if !selector::selects(at.value, made.as_object()) {
        f.invalid_shown(&at, &selector::show(at.value), "`selector` not auto-generated");
    }
}

fn whole_spec(f: &mut Faults, spec: &At<'_>) {
    job_spec(f, spec);
    let at = spec.get("selector");
    if at.is_set() {
        selector::label_selector(f, &at);
    } else {
        f.required(&at, "");
    }
    if selector::is_well_formed(&at) {
        workloads::matches_template(f, spec, at.value);
    }
}

/// What holds for a Job's specification even where the selector is still to come.
fn job_spec(f: &mut Faults, spec: &At<'_>) {
    for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        f.not_negative(&spec.get(field));
    }
    let (per_index, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    f.not_negative(&per_index);
    f.not_negative(&failed);
    if failed.is_set() && !per_index.is_set() {
        f.required(&per_index, "when maxFailedIndexes is specified");
    }
    let manager = spec.get("managedBy");
    if manager.is_set() && !is_domain_path(manager.str()) {
        f.invalid(&manager, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
    completion_mode(f, spec);
    if spec.has("podFailurePolicy") {
        failure_policy(f, spec);
    }
    success_policy(f, spec);
    replacement_policy(f, spec);
    let template = spec.get("template");
    pod::template(f, &template);
    let policy = template.dig(&["spec", "restartPolicy"]);
    match policy.str() {
        "" | "Always" => f.required(&policy, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            f.invalid(&policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        _ => f.unsupported(&policy, &["OnFailure", "Never"]),
    }
}

/// `acme.io/foo`
fn is_domain_path(text: &str) -> bool {
    text.split_once('/').is_some_and(|(domain, path)| names::subdomain(domain).is_empty() && !path.is_empty())
}

fn completion_mode(f: &mut Faults, spec: &At<'_>) {
    let (mode, parallelism) = (spec.get("completionMode"), spec.get("parallelism"));
    f.optional_one_of(&mode, &["NonIndexed", "Indexed"]);
    if mode.str() == "Indexed" {
        if !spec.has("completions") {
            f.required(&spec.get("completions"), "when completion mode is Indexed");
        }
        if parallelism.int_or(0) > INDEXED_PARALLELISM_MAX {
            let detail =
                format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
            f.invalid(&parallelism, detail);
        }
    }
    if mode.str() == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"].map(|name| spec.get(name)) {
            if field.is_set() {
                f.invalid(&field, ONLY_INDEXED);
            }
        }
    }
}

fn failure_policy(f: &mut Faults, spec: &At<'_>) {
    let template = spec.dig(&["template", "spec"]);
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| template.get(list).items())
        .map(|container| container.text("name"))
        .collect();
    let rules = spec.get("podFailurePolicy").get("rules");
    if rules.list().len() > POLICY_RULES_MAX {
        let detail = format!("must have at most {POLICY_RULES_MAX} items");
        f.add(Fault::new(rules.path(), FaultKind::TooMany, Some(rules.list().len().into()), detail));
    }
    for rule in rules.items() {
        let action = rule.get("action");
        match action.str() {
            "" => {
                let quoted: Vec<String> = ACTIONS.iter().map(|action| quote(action)).collect();
                f.required(&action, format!("valid values: [{}]", quoted.join(" ")));
            }
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                f.invalid(&action, "requires the backoffLimitPerIndex field to be set");
            }
            _ => f.one_of(&action, ACTIONS),
        }
        failure_rule(f, &rule, &containers);
    }
}

fn failure_rule(f: &mut Faults, rule: &At<'_>, containers: &BTreeSet<&str>) {
    let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
    match (codes.is_set(), conditions.is_zero()) {
        (true, has_none) => {
            if !has_none {
                f.add(Fault::new(rule.path(), FaultKind::Invalid, None, BOTH));
            }
            exit_codes(f, &codes, containers);
        }
        (false, true) => f.add(Fault::new(rule.path(), FaultKind::Invalid, None, NEITHER)),
        (false, false) => {
            for condition in conditions.items() {
                f.format(&condition.get("type"), names::qualified);
                f.one_of(&condition.get("status"), &["False", "True", "Unknown"]);
            }
        }
    }
}

const BOTH: &str = "specifying both OnExitCodes and OnPodConditions is not supported";
const NEITHER: &str = "specifying one of OnExitCodes and OnPodConditions is required";

fn exit_codes(f: &mut Faults, at: &At<'_>, containers: &BTreeSet<&str>) {
    let (operator, container, values) = (at.get("operator"), at.get("containerName"), at.get("values"));
    if operator.is_zero() {
        f.required(&operator, "valid values: [\"In\" \"NotIn\"]");
    } else {
        f.one_of(&operator, &["In", "NotIn"]);
    }
    if container.is_set() && !containers.contains(container.str()) {
        f.invalid(&container, "must be one of the container or initContainer names in the pod template");
    }
    if values.is_zero() {
        f.invalid(&values, "at least one value is required");
    }
    let (mut seen, mut last, mut ordered) = (BTreeSet::new(), None, true);
    for value in values.items() {
        let code = value.int_or(0);
        if operator.str() == "In" && code == 0 {
            f.invalid(&value, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            f.duplicate(&value);
        }
        ordered &= last.is_none_or(|last| last <= code);
        last = Some(code);
    }
    if !ordered {
        f.invalid(&values, "must be ordered");
    }
}

fn success_policy(f: &mut Faults, spec: &At<'_>) {
    let at = spec.get("successPolicy");
    if !at.is_set() {
        return;
    }
    if spec.text("completionMode") != "Indexed" {
        return f.invalid_shown(&at, &crate::go::print("SuccessPolicy", at.value), ONLY_INDEXED);
    }
    let rules = at.get("rules");
    if rules.is_zero() {
        f.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    }
    for rule in rules.items() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            f.required(&rule, "at least one of succeededCount or succeededIndexes must be specified");
        }
        if count.int_or(0) > spec.get("completions").int_or(0) {
            let detail = format!(
                "must be less than or equal to {} (the number of specified completions)",
                spec.get("completions").int_or(0)
            );
            f.invalid(&count, detail);
        }
    }
}

fn replacement_policy(f: &mut Faults, spec: &At<'_>) {
    let at = spec.get("podReplacementPolicy");
    let supported: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    f.optional_one_of(&at, supported);
}

pub(crate) fn job_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    generated_selector(f, new);
    // Twice: as if it were new, and as a change.
    whole_spec(f, &spec);
    whole_spec(f, &spec);
    completions_update(f, &spec, &before);
    f.immutable_shown(&spec.get("selector"), &before.get("selector"), selector::show);
    template_update(f, &spec, &before, old);
    f.immutable(&spec.get("completionMode"), &before.get("completionMode"));
    f.immutable_shown(&spec.get("podFailurePolicy"), &before.get("podFailurePolicy"), |value| {
        if value.is_null() { "null".into() } else { crate::go::print("PodFailurePolicy", value) }
    });
    f.immutable(&spec.get("backoffLimitPerIndex"), &before.get("backoffLimitPerIndex"));
    f.immutable(&spec.get("managedBy"), &before.get("managedBy"));
    f.immutable_shown(&spec.get("successPolicy"), &before.get("successPolicy"), |value| {
        if value.is_null() { "null".into() } else { crate::go::print("SuccessPolicy", value) }
    });
}

fn completions_update(f: &mut Faults, spec: &At<'_>, before: &At<'_>) {
    let (new, old) = (spec.get("completions"), before.get("completions"));
    if spec.text("completionMode") != "Indexed" {
        f.immutable(&new, &old);
    } else if new.value != old.value && new.value != spec.get("parallelism").value {
        f.invalid(&new, format!("can only be modified in tandem with {}", spec.get("parallelism").path()));
    }
}

/// The template stays, but a Job that never ran may still be told where to run.
fn template_update(f: &mut Faults, spec: &At<'_>, before: &At<'_>, old: &At<'_>) {
    let (new, was) = (spec.get("template"), before.get("template"));
    let mut allowed = new.value.clone();
    let waits = before.get("suspend").bool() && !old.get("status").has("startTime");
    if waits {
        for (parent, field) in [
            ("/spec", "nodeSelector"),
            ("/spec", "tolerations"),
            ("/spec", "schedulingGates"),
            ("/spec", "affinity"),
            ("/metadata", "annotations"),
            ("/metadata", "labels"),
        ] {
            let value = was.value.pointer(&format!("{parent}/{field}")).cloned();
            let Some(serde_json::Value::Object(map)) = allowed.pointer_mut(parent) else { continue };
            match value {
                Some(value) => drop(map.insert(field.to_owned(), value)),
                None => drop(map.remove(field)),
            }
        }
    }
    if allowed != *was.value {
        f.invalid_shown(&new, &crate::go::print("PodTemplateSpec", &allowed), IMMUTABLE);
    }
}

/// A Job's status only moves forward.
pub(crate) fn job_status(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (status, before) = (new.get("status"), old.get("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        f.not_negative(&status.get(field));
    }
    let holds = |status: &At<'_>, kind: &str| {
        status.get("conditions").items().any(|c| c.text("type") == kind && c.text("status") == "True")
    };
    let at = status.get("conditions");
    let mut wrong = |detail: String| f.add(Fault::new(at.path(), FaultKind::Invalid, None, detail));
    for kind in ["Complete", "Failed"] {
        if holds(&before, kind) && !holds(&status, kind) {
            wrong(format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    if holds(&status, "Complete") && holds(&status, "Failed") {
        wrong("cannot set Complete=True and Failed=true conditions".into());
    }
    let completion = status.get("completionTime");
    if holds(&status, "Complete") && !completion.is_set() {
        f.required(&completion, "completionTime is required for Complete jobs");
    }
    for field in ["succeeded", "failed"] {
        if status.get(field).int_or(0) < before.get(field).int_or(0) {
            f.invalid_value(
                &status.get(field),
                status.get(field).int_or(0),
                format!("cannot decrease the {field} counter"),
            );
        }
    }
    for kind in ["FailureTarget", "SuccessCriteriaMet"] {
        if holds(&before, kind) && !holds(&status, kind) {
            let detail = format!("cannot disable the {kind}=True condition");
            f.add(Fault::new(at.path(), FaultKind::Invalid, None, detail));
        }
    }
    for (condition, needed) in [("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")] {
        if holds(&status, condition) && !holds(&status, needed) {
            let detail = format!("cannot set {condition}=True condition without the {needed}=true condition");
            f.add(Fault::new(at.path(), FaultKind::Invalid, None, detail));
        }
    }
    let failed = indexes(status.text("failedIndexes"));
    if let Some(index) = indexes(status.text("completedIndexes")).intersection(&failed).next() {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        f.invalid(&status.get("failedIndexes"), detail);
    }
}

/// `1,3-5`, as far as it is bounded.
fn indexes(text: &str) -> BTreeSet<u32> {
    const RANGE_MAX: u32 = 100_000;
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        (to.saturating_sub(from) <= RANGE_MAX).then_some(from..=to)
    };
    text.split(',').filter_map(range).flatten().collect()
}

const CRON_NAME_MAX: usize = 52;

pub(crate) fn cron_job(f: &mut Faults, object: &At<'_>) {
    cron_spec(f, object);
    let name = object.dig(&["metadata", "name"]);
    if name.str().len() > CRON_NAME_MAX {
        f.invalid(&name, format!("must be no more than {CRON_NAME_MAX} characters"));
    }
}

pub(crate) fn cron_spec(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let schedule = spec.get("schedule");
    if schedule.is_zero() {
        f.required(&schedule, "");
    } else if let Some(problem) = cron::problem(schedule.str()) {
        f.invalid(&schedule, problem);
    }
    f.not_negative(&spec.get("startingDeadlineSeconds"));
    let zone = spec.get("timeZone");
    if zone.is_set()
        && let Some(problem) = cron::zone_problem(zone.str())
    {
        f.invalid(&zone, problem);
    }
    f.present_one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    let job = spec.dig(&["jobTemplate", "spec"]);
    job_spec(f, &job);
    if job.has("selector") {
        f.invalid_shown(&job.get("selector"), &go_json(job.get("selector").value), "`selector` will be auto-generated");
    }
    f.not_negative(&spec.get("successfulJobsHistoryLimit"));
    f.not_negative(&spec.get("failedJobsHistoryLimit"));
}
