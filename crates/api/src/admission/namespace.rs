//! The life of namespaces: nothing is created in one that is missing or going.

use serde_json::{Value, json};
use sluice_schema::Kind;

use crate::call::Call;
use crate::object::{Object, map_at};
use crate::refusal::{Named, Refusal};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) fn must_be_live(call: &Call, object: &Value) -> Result<(), Refusal> {
    let (kind, namespace) = (call.kind(), call.namespace());
    if !kind.namespaced {
        return Ok(());
    }
    let namespaces = call.server.registry().kinds().find("", "v1", "namespaces");
    let found = namespaces.and_then(|kind| call.server.storage().get_by(&kind, "", namespace));
    let Some(found) = found else { return Err(Refusal::NotFound(Named::core("namespaces", namespace))) };
    if !found.value().being_deleted() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = json!({"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
                       "field": "metadata.namespace"});
    Err(Refusal::Forbidden { named: Named::of(kind, object.name()), why, causes: vec![cause] })
}

/// Every namespace carries its name as a label.
pub(crate) fn label(kind: &Kind, object: &mut Value) {
    if kind.is("", "Namespace") && !object.name().is_empty() {
        let name = object.name().to_owned();
        map_at(&mut object["metadata"], "labels").insert(NAME_LABEL.into(), json!(name));
    }
}

/// A new namespace waits at its end for its contents to go.
pub(crate) fn complete(kind: &Kind, object: &mut Value) {
    if !kind.is("", "Namespace") {
        return;
    }
    label(kind, object);
    let finalizers = map_at(object, "spec").entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|finalizer| finalizer == FINALIZER)
    {
        list.push(json!(FINALIZER));
    }
}

pub(crate) fn may_go(kind: &Kind, live: &Value) -> Result<(), Refusal> {
    if kind.is("", "Namespace") && IMMORTAL.contains(&live.name()) {
        return Err(Refusal::forbidden(kind, live.name(), "this namespace may not be deleted"));
    }
    Ok(())
}
