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
    let value = budget.value();
    let status = &value["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let current = value["metadata"]["generation"].as_i64().unwrap_or(0) <= number("observedGeneration");
    if !current || number("disruptionsAllowed") <= 0 {
        return Err(over_budget(value.name(), number("desiredHealthy"), number("currentHealthy"), current));
    }
    if dry_run {
        return Ok(());
    }
    let mut charged = budget.to_value();
    charged["status"]["disruptionsAllowed"] = json!(number("disruptionsAllowed") - 1);
    charged["status"]["disruptedPods"][pod.name()] = json!(random::now());
    let key = Key(budget.key.to_string());
    match storage.replace(&key, budget.revision, &charged).await? {
        Some(_) => Ok(()),
        None => Err(over_budget(value.name(), number("desiredHealthy"), number("currentHealthy"), true)),
    }
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    !selector.is_null() && Selector::from_object(selector).is_ok_and(|s| s.matches_labels(&pod["metadata"]["labels"]))
}

fn over_budget(name: &str, needs: i64, has: i64, current: bool) -> Refusal {
    let message = match (current, needs >= has) {
        (true, true) => format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently"),
        (true, false) => format!("The disruption budget {name} does not allow evicting pods currently"),
        (false, _) => format!("The disruption budget {name} is still being processed by the server."),
    };
    Refusal::TooManyRequests {
        message: "Cannot evict pod as it would violate the pod's disruption budget.".into(),
        causes: vec![json!({"reason": "DisruptionBudget", "message": message})],
    }
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
