//! Giving a pod its node.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::object::{Object, map_at};
use crate::random;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::request::{BodyFormat, Target, WriteOptions};
use crate::rules;
use crate::verbs::{self, judge_fields};

/// `POST pods/NAME/binding`.
pub(super) async fn bind(call: &Call) -> Result<Response<Body>, Refusal> {
    let (binding, options) = read(call)?;
    if binding.name() != call.name() {
        return Err(Refusal::bad("name in URL does not match name in Binding object"));
    }
    assign(call, &binding, &options).await
}

/// `POST bindings`: the old form, which names the pod only in the body.
pub(crate) async fn bind_by_collection(mut call: Call) -> Result<Response<Body>, Refusal> {
    let (binding, options) = read(&call)?;
    let kinds = call.server.registry().kinds();
    let pods = kinds.find("", "v1", "pods").expect("pods are built in");
    call.target = Target { kind: pods, name: Some(binding.name().to_owned()), ..call.target };
    assign(&call, &binding, &options).await
}

fn read(call: &Call) -> Result<(Value, WriteOptions), Refusal> {
    let kind = crate::builtin::body("", "v1", "Binding");
    let format = BodyFormat::of(call.content_type.as_deref(), &kind)?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "CreateOptions")?;
    let mut decoded = rules::decode(&kind, format, &call.body)?;
    judge_fields(call, &kind, options.validation, std::mem::take(&mut decoded.notices))?;
    Ok((decoded.object, options))
}

async fn assign(call: &Call, binding: &Value, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let target_kind = binding.text("/target/kind");
    if !matches!(target_kind, "" | "Node") {
        return Err(Refusal::Unexplained(format!(
            "target.kind: Unsupported value: {target_kind:?}: supported values: \"Node\", \"<empty>\""
        )));
    }
    let node = binding.text("/target/name");
    if node.is_empty() {
        return Err(Refusal::Unexplained("target.name: Required value".into()));
    }
    verbs::edit(call, Some("binding"), options.dry_run, |pod| bound(call, pod, binding, node)).await?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(render::value(call.accept.encoding, StatusCode::CREATED, &status))
}

fn bound(call: &Call, live: &Value, binding: &Value, node: &str) -> Result<Value, Refusal> {
    let refuse = |why: String| {
        let named = Named { group: String::new(), resource: "pods/binding".into(), name: call.name().to_owned() };
        Err(Refusal::Conflict { named, why })
    };
    if !binding.uid().is_empty() && binding.uid() != live.uid() {
        return Err(verbs::other_uid(call, binding.uid(), live.uid()));
    }
    if live.being_deleted() {
        return refuse(format!("pod {} is being deleted, cannot be assigned to a host", call.name()));
    }
    let current = live.text("/spec/nodeName");
    if !current.is_empty() {
        return refuse(format!("pod {} is already assigned to node {current:?}", call.name()));
    }
    if live["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {} has non-empty .spec.schedulingGates", call.name()));
    }
    let mut pod = live.clone();
    pod["spec"]["nodeName"] = json!(node);
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
            map_at(&mut pod["metadata"], field).insert(key.clone(), value.clone());
        }
    }
    scheduled(&mut pod);
    Ok(pod)
}

/// The condition that tells since when the pod has its node.
fn scheduled(pod: &mut Value) {
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": random::now()});
    let status = map_at(pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != "PodScheduled");
        list.push(condition);
    }
}
