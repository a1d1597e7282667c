//! Jobs and CronJobs.

use serde_json::Value;

use super::pod;
use crate::edit::Edit;

pub(super) fn job(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) && !object["metadata"].holds("labels") {
        object.ensure("metadata").put("labels", labels);
    }
    let spec = object.ensure("spec");
    // Neither says anything: one pod. Completions alone: one after the other. Parallelism alone: a work queue.
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.put("completions", 1);
    }
    spec.default("parallelism", 1);
    let retries = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    spec.default("backoffLimit", retries);
    spec.default("completionMode", "NonIndexed");
    spec.default("suspend", false);
    spec.default("manualSelector", false);
    let replace = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    spec.default("podReplacementPolicy", replace);
    job_spec(spec);
}

/// What holds for the Jobs of a CronJob already.
fn job_spec(spec: &mut Value) {
    if let Some(policy) = spec.child("podFailurePolicy") {
        for rule in policy.each("rules") {
            for condition in rule.each("onPodConditions") {
                condition.default("status", "True");
            }
        }
    }
    pod::template(spec, "template");
}

pub(super) fn cron_job(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("concurrencyPolicy", "Allow");
    spec.default("suspend", false);
    spec.default("successfulJobsHistoryLimit", 3);
    spec.default("failedJobsHistoryLimit", 1);
    job_spec(spec.ensure("jobTemplate").ensure("spec"));
}
