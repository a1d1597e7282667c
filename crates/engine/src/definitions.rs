//! What an engine's API serves beyond the built-in kinds: our own definitions, those of the Gateway API, and our classes.

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use sluice_api::Server;
use sluice_gateway::{CONTROLLER_NAME, GATEWAY_CLASS};
use sluice_node::PROVISIONER;

use crate::options::StartError;

/// Claims that name no class get this one.
const STORAGE_CLASS: &str = "local-path";
/// The field manager of these objects.
const MANAGER: &str = "sluice-engine";
/// Names the content of what was applied, so that an unchanged start writes nothing.
const CONTENT: &str = "sluice.dev/content";

/// Brings every definition to what this version knows: new ones at once, changed ones one by one.
pub(crate) async fn install(server: &Server, client: &Client) -> Result<(), StartError> {
    let crds: Api<DynamicObject> =
        Api::all_with(client.clone(), &resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let mut missing = Vec::new();
    for definition in definitions().map(with_content) {
        match crds.get_metadata_opt(name(&definition)).await? {
            None => missing.push(definition),
            Some(stored) if is_content(&stored, &definition) => {}
            Some(_) => apply(&crds, &definition).await?,
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    server.install_definitions(MANAGER, &missing).await.map_err(StartError::other)
}

/// The class that Gateways of ours name, the one of Ingresses, and the one of volumes below the data directory; Ingresses and
/// claims get theirs by default.
pub(crate) async fn install_classes(client: &Client) -> Result<(), StartError> {
    let gateways = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": GATEWAY_CLASS}, "spec": {"controllerName": CONTROLLER_NAME},
    });
    let ingresses = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": GATEWAY_CLASS, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": CONTROLLER_NAME},
    });
    let volumes = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    install_one(client, &resource("gateway.networking.k8s.io", "v1", "GatewayClass"), gateways).await?;
    install_one(client, &resource("networking.k8s.io", "v1", "IngressClass"), ingresses).await?;
    install_one(client, &resource("storage.k8s.io", "v1", "StorageClass"), volumes).await
}

/// One that its user changed stays as it is, until this version knows another.
async fn install_one(client: &Client, resource: &ApiResource, object: Value) -> Result<(), StartError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let object = with_content(object);
    match api.get_metadata_opt(name(&object)).await? {
        Some(stored) if is_content(&stored, &object) => Ok(()),
        _ => apply(&api, &object).await,
    }
}

fn definitions() -> impl Iterator<Item = Value> {
    let ours = sluice_model::crds::ALL.iter().map(|yaml| {
        serde_saphyr::from_str(yaml).expect("our definitions are well-formed: a test of `model` reads them")
    });
    ours.chain(sluice_schema::gateway_api())
}

async fn apply(api: &Api<DynamicObject>, object: &Value) -> Result<(), StartError> {
    api.patch(name(object), &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?;
    Ok(())
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("every object of ours has a name")
}

fn with_content(mut object: Value) -> Value {
    let content = digest(&object);
    object["metadata"]["annotations"][CONTENT] = json!(content);
    object
}

fn is_content(stored: &PartialObjectMeta<DynamicObject>, object: &Value) -> bool {
    let content = stored.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONTENT));
    content.map(String::as_str) == object["metadata"]["annotations"][CONTENT].as_str()
}

/// Over the canonical JSON: tells contents apart, no more.
fn digest(object: &Value) -> String {
    format!("{:08x}", sluice_model::fnv1a(object.to_string().as_bytes()))
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

#[cfg(test)]
mod tests {
    use sluice_schema::crd;

    #[test]
    fn our_own_definitions_are_valid() {
        for mut definition in super::definitions() {
            crd::apply_definition_defaults(&mut definition);
            assert_eq!(crd::check_definition(&definition), [], "{}", definition["metadata"]["name"]);
        }
    }
}
