//! Pods: the one word that says how a pod is doing, made of phase, reasons and the states of its containers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{Object, human_duration};

/// What a look at the containers yields.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub(super) fn cells(pod: Object<'_>) -> Vec<Value> {
    let summary = summarise(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, human_duration(pod.now.as_second() - last.as_second()))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        pod.name(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        pod.age(),
        pod.text_or("/status/podIPs/0/ip", "<none>"),
        pod.text_or("/spec/nodeName", "<none>"),
        pod.text_or("/status/nominatedNodeName", "<none>"),
        readiness_gates(pod).into(),
    ]
}

/// The mark on the rows of pods that are done.
pub(super) fn finished(pod: Object<'_>) -> Option<Value> {
    let (reason, message) = match pod.text("/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn readiness_gates(pod: Object<'_>) -> String {
    let gates = pod.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let passed =
        gates.iter().filter(|gate| pod.has_condition(gate["conditionType"].as_str().unwrap_or_default())).count();
    format!("{passed}/{}", gates.len())
}

fn summarise(pod: Object<'_>) -> Summary {
    let mut summary = Summary { total: pod.list("/spec/containers").len(), ..Summary::default() };
    let phase = pod.text("/status/phase");
    let status_reason = pod.text("/status/reason");
    summary.reason = if status_reason.is_empty() { phase } else { status_reason }.to_owned();
    let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if pod.list("/status/conditions").iter().any(gated) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let sidecars = look_at_init_containers(pod, &mut summary);
    if sidecars.initializing && !pod.has_condition("Initialized") {
        // Restarts of the init containers stand.
    } else {
        summary.restarts = sidecars.restarts;
        summary.last_restart = sidecars.last_restart;
        look_at_containers(pod, &mut summary);
    }
    if pod.is_leaving() {
        if status_reason == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// What of the init containers counts while the others run: the sidecars among them.
#[derive(Default)]
struct Sidecars {
    initializing: bool,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn look_at_init_containers(pod: Object<'_>, summary: &mut Summary) -> Sidecars {
    let specs = pod.list("/spec/initContainers");
    let is_sidecar = |name: &Value| specs.iter().any(|spec| spec["name"] == *name && spec["restartPolicy"] == "Always");
    summary.total += specs.iter().filter(|spec| spec["restartPolicy"] == "Always").count();
    let mut sidecars = Sidecars::default();
    for (index, status) in pod.list("/status/initContainerStatuses").iter().enumerate() {
        let restarts = status["restartCount"].as_i64().unwrap_or(0);
        summary.restarts += restarts;
        summary.last_restart = summary.last_restart.max(last_end(status));
        let sidecar = is_sidecar(&status["name"]);
        if sidecar {
            sidecars.restarts += restarts;
            sidecars.last_restart = sidecars.last_restart.max(last_end(status));
        }
        let ended = &status["state"]["terminated"];
        if ended.is_object() && exit_code(ended) == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = status["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        summary.reason = if ended.is_object() {
            format!("Init:{}", ending(ended))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", specs.len())
        };
        sidecars.initializing = true;
        break;
    }
    sidecars
}

/// From the last container to the first, so that the first has the last word.
fn look_at_containers(pod: Object<'_>, summary: &mut Summary) {
    let mut running = false;
    let mut failure = None;
    for status in pod.list("/status/containerStatuses").iter().rev() {
        summary.restarts += status["restartCount"].as_i64().unwrap_or(0);
        summary.last_restart = summary.last_restart.max(last_end(status));
        let state = &status["state"];
        let waiting = state["waiting"]["reason"].as_str().unwrap_or_default();
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if state["terminated"].is_object() {
            summary.reason = ending(&state["terminated"]);
            if exit_code(&state["terminated"]) != 0 {
                failure = Some(summary.reason.clone());
            }
        } else if status["ready"] == true && state["running"].is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    // One container is done, but not all of them.
    if summary.reason == "Completed" {
        if running && pod.has_condition("Ready") {
            summary.reason = "Running".to_owned();
        } else if let Some(failure) = failure {
            summary.reason = failure;
        } else if running {
            summary.reason = "NotReady".to_owned();
        }
    }
}

fn exit_code(ended: &Value) -> i64 {
    ended["exitCode"].as_i64().unwrap_or(0)
}

fn ending(ended: &Value) -> String {
    let reason = ended["reason"].as_str().unwrap_or_default();
    let signal = ended["signal"].as_i64().unwrap_or(0);
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", exit_code(ended)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn last_end(status: &Value) -> Option<Timestamp> {
    status["lastState"]["terminated"]["finishedAt"].as_str()?.parse().ok()
}
