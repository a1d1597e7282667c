//! Workloads: how many there should be, how many there are.

use serde_json::Value;

use super::cells::{Object, containers, human_duration, labels, none_if_empty, selector};
use super::default_cells;

const TEMPLATE: &str = "/spec/template/spec/containers";

pub(super) fn cells(kind: &str, object: Object<'_>) -> Vec<Value> {
    match kind {
        "Deployment" => deployment(object),
        "ReplicaSet" => replica_set(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "ControllerRevision" => controller_revision(object),
        "Job" => job(object),
        "CronJob" => cron_job(object),
        _ => default_cells(object),
    }
}

pub(super) fn pod_template(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, "/template/spec/containers");
    vec![object.name(), names, images, labels(object.at("/template/metadata/labels")).into()]
}

pub(super) fn replication_controller(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let mut cells = counts(object);
    cells.extend([names, images, labels(object.at("/spec/selector")).into()]);
    cells
}

fn counts(object: Object<'_>) -> Vec<Value> {
    let counts = ["/spec/replicas", "/status/replicas", "/status/readyReplicas"].map(|pointer| object.int(pointer));
    let mut cells = vec![object.name()];
    cells.extend(counts);
    cells.push(object.age());
    cells
}

fn shown_selector(object: Object<'_>) -> Value {
    none_if_empty(selector(object.at("/spec/selector"))).into()
}

fn ready(object: Object<'_>) -> Value {
    format!("{}/{}", object.number("/status/readyReplicas"), object.number("/spec/replicas")).into()
}

fn deployment(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        object.name(),
        ready(object),
        object.int("/status/updatedReplicas"),
        object.int("/status/availableReplicas"),
        object.age(),
        names,
        images,
        selector(object.at("/spec/selector")).into(),
    ]
}

fn replica_set(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let mut cells = counts(object);
    cells.extend([names, images, shown_selector(object)]);
    cells
}

fn stateful_set(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![object.name(), ready(object), object.age(), names, images]
}

fn daemon_set(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let mut cells = vec![object.name()];
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    cells.extend(counts.map(|field| object.int(&format!("/status/{field}"))));
    cells.push(labels(object.at("/spec/template/spec/nodeSelector")).into());
    cells.extend([object.age(), names, images, shown_selector(object)]);
    cells
}

fn controller_revision(object: Object<'_>) -> Vec<Value> {
    let owner = object.list("/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
    let owner = owner.map_or("<none>".to_owned(), |owner| {
        let kind = owner["kind"].as_str().unwrap_or_default();
        let group = owner["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}/{}", format!("{kind}{dot}{group}").to_lowercase(), owner["name"].as_str().unwrap_or_default())
    });
    vec![object.name(), owner.into(), object.int("/revision"), object.age()]
}

fn job(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let succeeded = object.number("/status/succeeded");
    let completions = match (object.at("/spec/completions").as_i64(), object.number("/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    vec![
        object.name(),
        job_status(object).into(),
        completions.into(),
        job_duration(object).into(),
        object.age(),
        names,
        images,
        shown_selector(object),
    ]
}

fn job_status(object: Object<'_>) -> &'static str {
    if object.has_condition("Complete") {
        "Complete"
    } else if object.has_condition("Failed") {
        "Failed"
    } else if object.is_leaving() {
        "Terminating"
    } else if object.has_condition("Suspended") {
        "Suspended"
    } else if object.has_condition("FailureTarget") {
        "FailureTarget"
    } else if object.has_condition("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn job_duration(object: Object<'_>) -> String {
    let time = |pointer: &str| object.text(pointer).parse::<jiff::Timestamp>().ok();
    match time("/status/startTime") {
        None => String::new(),
        Some(start) => {
            let end = time("/status/completionTime").unwrap_or(object.now);
            human_duration(end.as_second() - start.as_second())
        }
    }
}

fn cron_job(object: Object<'_>) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/jobTemplate/spec/template/spec/containers");
    let last = match object.text("/status/lastScheduleTime") {
        "" => "<none>".to_owned(),
        _ => object.since("/status/lastScheduleTime"),
    };
    let suspended = match object.at("/spec/suspend").as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    vec![
        object.name(),
        object.text("/spec/schedule").into(),
        object.text_or("/spec/timeZone", "<none>"),
        suspended.into(),
        object.list("/status/active").len().into(),
        last.into(),
        object.age(),
        names,
        images,
        none_if_empty(selector(object.at("/spec/jobTemplate/spec/selector"))).into(),
    ]
}
