//! Evicting a pod: a deletion that disruption budgets may refuse.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_model::selector::Selector;

use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::render;
use crate::request::{BodyFormat, DeleteOptions, WriteOptions};
use crate::rules;
use crate::storage::{Key, scope};
use crate::verbs::{self, judge_fields};

const OVER_BUDGET: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// When to ask again after a budget that is not counted yet.
const UNCOUNTED_RETRY_SECONDS: u32 = 10;
/// A budget that changes under so many attempts is left to the client's next one.
const ATTEMPTS: usize = 20;

pub(super) async fn evict(call: &Call) -> Result<Response<Body>, Refusal> {
    // The former version means the same.
    let kind = crate::builtin::body("policy", "v1", "Eviction");
    let format = BodyFormat::of(call.content_type.as_deref(), &kind)?;
    let former = String::from_utf8_lossy(&call.body).replace("policy/v1beta1", "policy/v1");
    let sent = if format == BodyFormat::Protobuf { &call.body[..] } else { former.as_bytes() };
    let options = WriteOptions::parse(&call.query, &call.user_agent, "CreateOptions")?;
    let mut decoded = rules::decode(&kind, format, sent)?;
    judge_fields(call, &kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let eviction = decoded.object;
    if !eviction.name().is_empty() && eviction.name() != call.name() {
        return Err(Refusal::bad("name in URL does not match name in Eviction object"));
    }
    let mut delete = DeleteOptions::parse(&call.query, Some(&eviction["deleteOptions"]))?;
    delete.dry_run |= options.dry_run;
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let pod = entry.value();
    // Pods that do no work any more disrupt nobody.
    let finished = matches!(pod.text("/status/phase"), "Succeeded" | "Failed" | "Pending") || pod.being_deleted();
    if !finished {
        charge_budget(call, &pod, delete.dry_run).await?;
    }
    if !delete.dry_run && !pod.being_deleted() && delete.uid.as_deref().is_none_or(|uid| uid == pod.uid()) {
        verbs::edit(call, Some("status"), false, |pod| Ok(disrupted(pod))).await?;
    }
    verbs::delete_one(call, &call.key(), call.name(), &delete).await?;
    Ok(render::value(
        call.accept.encoding,
        StatusCode::CREATED,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        }),
    ))
}

/// Takes one disruption from the budget of the pod, or refuses.
async fn charge_budget(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Refusal> {
    let storage = call.server.storage();
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("policy", "v1", "poddisruptionbudgets").expect("budgets are built in");
    let covering: Vec<_> =
        storage.all(&scope(&kind, call.namespace())).into_iter().filter(|entry| covers(&entry.value(), pod)).collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Refusal::Unexplained(why.into()));
        }
    };
    let mut budget = budget.clone();
    for _ in 0..ATTEMPTS {
        let value = budget.value();
        if !is_ready(pod) && spares_unready(&value) {
            return Ok(());
        }
        let charged = charge(&value, pod.name())?;
        if dry_run {
            return Ok(());
        }
        let key = Key(budget.key.to_string());
        if storage.replace(&key, budget.revision, &charged).await?.is_some() {
            return Ok(());
        }
        // Somebody else took one, or counted anew.
        budget = storage.get(&key).ok_or_else(|| Refusal::not_found(&kind, value.name()))?;
    }
    Err(Refusal::TooManyRequests { message: OVER_BUDGET.into(), causes: Vec::new(), retry_seconds: 0 })
}

/// An unready pod serves nobody: by its policy a budget lets it go always, or while it is kept itself.
fn spares_unready(budget: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let is_kept = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || is_kept
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The budget with one disruption less, or why there is none.
fn charge(budget: &Value, pod_name: &str) -> Result<Value, Refusal> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let name = budget.name();
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(over_budget(&why, UNCOUNTED_RETRY_SECONDS));
    }
    let allowed = number("disruptionsAllowed");
    if allowed <= 0 {
        return Err(over_budget(&why_none(budget), 0));
    }
    let mut charged = budget.clone();
    charged["status"]["disruptionsAllowed"] = json!(allowed - 1);
    charged["status"]["disruptedPods"][pod_name] = json!(random::now());
    Ok(charged)
}

fn why_none(budget: &Value) -> String {
    let (name, status) = (budget.name(), &budget["status"]);
    let (needs, has) = (&status["desiredHealthy"], &status["currentHealthy"]);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let failed = conditions.find(|it| it["type"] == "DisruptionAllowed" && it["reason"] == "SyncFailed");
    if let Some(failed) = failed {
        let why = failed["message"].as_str().unwrap_or_default();
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
        );
    }
    if has.as_i64() <= needs.as_i64() {
        format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    }
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    !selector.is_null() && Selector::from_object(selector).is_ok_and(|s| s.matches_labels(&pod["metadata"]["labels"]))
}

fn over_budget(why: &str, retry_seconds: u32) -> Refusal {
    let causes = vec![json!({"reason": "DisruptionBudget", "message": why})];
    Refusal::TooManyRequests { message: OVER_BUDGET.into(), causes, retry_seconds }
}

fn disrupted(live: &Value) -> Value {
    let mut pod = live.clone();
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                           "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": random::now()});
    let status = crate::object::map_at(&mut pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != "DisruptionTarget");
        list.push(condition);
    }
    pod
}
