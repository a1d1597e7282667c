//! The priority of a pod comes from its class.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_schema::Kind;

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::storage::scope;

/// Classes that are there from the start and stay.
pub(crate) const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPT: &str = "PreemptLowerPriority";

/// What a class makes of a pod.
struct Computed {
    class: String,
    value: i64,
    policy: String,
}

pub(super) fn admit(call: &Call, pod: &mut Value) -> Result<(), Refusal> {
    let computed = computed(call, pod)?;
    let refuse = |why: String| Err(Refusal::forbidden(call.kind(), pod.name(), why));
    if let Some(own) = pod["spec"]["priority"].as_i64().filter(|own| *own != computed.value) {
        return refuse(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed \
             {} from the given PriorityClass name",
            computed.value
        ));
    }
    let own = pod.text("/spec/preemptionPolicy");
    if !own.is_empty() && own != computed.policy {
        return refuse(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller \
             computed {} from the given PriorityClass name",
            computed.policy
        ));
    }
    if !computed.class.is_empty() {
        pod["spec"]["priorityClassName"] = json!(computed.class);
    }
    pod["spec"]["priority"] = json!(computed.value);
    pod["spec"]["preemptionPolicy"] = json!(computed.policy);
    Ok(())
}

fn computed(call: &Call, pod: &Value) -> Result<Computed, Refusal> {
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("scheduling.k8s.io", "v1", "priorityclasses").expect("priority classes are built in");
    let of = |class: Arc<Value>| Computed {
        class: class.name().to_owned(),
        value: class["value"].as_i64().unwrap_or(0),
        policy: class["preemptionPolicy"].as_str().unwrap_or(PREEMPT).to_owned(),
    };
    let named = pod.text("/spec/priorityClassName");
    if named.is_empty() {
        let all = call.server.storage().all(&scope(&kind, ""));
        let default = all.iter().map(|entry| entry.value()).filter(|class| class["globalDefault"] == true);
        let least = default.min_by_key(|class| class["value"].as_i64());
        return Ok(least.map_or_else(|| Computed { class: String::new(), value: 0, policy: PREEMPT.into() }, of));
    }
    match call.server.storage().get_by(&kind, "", named) {
        Some(class) => Ok(of(class.value())),
        None => {
            let why = format!("no PriorityClass with name {named} was found");
            Err(Refusal::forbidden(call.kind(), pod.name(), why))
        }
    }
}

/// What was computed once stays.
pub(super) fn keep(live: &Value, pod: &mut Value) {
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"][field].is_null() && !live["spec"][field].is_null() {
            pod["spec"][field] = live["spec"][field].clone();
        }
    }
}

pub(super) fn may_go(kind: &Kind, live: &Value) -> Result<(), Refusal> {
    let system = SYSTEM.iter().any(|(name, _)| *name == live.name());
    if kind.is("scheduling.k8s.io", "PriorityClass") && system {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Refusal::forbidden(kind, live.name(), why));
    }
    Ok(())
}
