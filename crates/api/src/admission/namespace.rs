//! The life of namespaces: nothing is created in one that is missing or going.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_schema::Kind;
use sluice_store::Entry;

use crate::call::Call;
use crate::object::{Object, map_at};
use crate::refusal::{Named, Refusal};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) fn must_be_live(call: &Call, object: &Value) -> Result<(), Refusal> {
    let (kind, namespace) = (call.kind(), call.namespace());
    let Some(found) = find(call)? else { return Ok(()) };
    if !found.value().being_deleted() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = json!({"reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
                       "field": "metadata.namespace"});
    Err(Refusal::Forbidden { named: Named::of(kind, object.name()), why, causes: vec![cause] })
}

/// Nothing is changed in a namespace that is gone.
pub(crate) fn must_exist(call: &Call) -> Result<(), Refusal> {
    find(call).map(drop)
}

/// The namespace of the request; none for kinds that are in none.
fn find(call: &Call) -> Result<Option<Arc<Entry>>, Refusal> {
    let namespace = call.namespace();
    if !call.kind().namespaced {
        return Ok(None);
    }
    let namespaces = call.server.registry().kinds().find("", "v1", "namespaces").expect("namespaces are built in");
    let found = call.server.storage().get_by(&namespaces, "", namespace);
    found.map(Some).ok_or_else(|| Refusal::NotFound(Named::core("namespaces", namespace)))
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
