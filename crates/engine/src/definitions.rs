//! What an engine's API serves beyond the built-in kinds: our own definitions, those of the Gateway API, and our class.

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use sluice_gateway::{CONTROLLER_NAME, GATEWAY_CLASS};

use crate::options::StartError;

/// The field manager of these objects.
const MANAGER: &str = "sluice-engine";
/// Names the content of what was applied, so that an unchanged start writes nothing.
const CONTENT: &str = "sluice.dev/content";

/// Brings every definition to what this version knows.
pub(crate) async fn install(client: &Client) -> Result<(), StartError> {
    let all = definitions();
    let crds: Api<DynamicObject> =
        Api::all_with(client.clone(), &resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let installs = all.iter().map(|definition| apply(&crds, definition));
    futures::future::try_join_all(installs).await?;
    Ok(())
}

/// The class that Gateways of ours name.
pub(crate) async fn install_class(client: &Client) -> Result<(), StartError> {
    let classes: Api<DynamicObject> =
        Api::all_with(client.clone(), &resource("gateway.networking.k8s.io", "v1", "GatewayClass"));
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": GATEWAY_CLASS}, "spec": {"controllerName": CONTROLLER_NAME},
    });
    apply(&classes, &class).await
}

fn definitions() -> Vec<Value> {
    let ours = sluice_model::crds::ALL.iter().map(|yaml| {
        serde_saphyr::from_str(yaml).expect("our definitions are well-formed: a test of `model` reads them")
    });
    ours.chain(sluice_schema::gateway_api()).collect()
}

async fn apply(api: &Api<DynamicObject>, object: &Value) -> Result<(), StartError> {
    let name = object["metadata"]["name"].as_str().expect("every definition has a name");
    let content = digest(object);
    let stored = api.get_metadata_opt(name).await?;
    let unchanged = |o: &kube::core::PartialObjectMeta<DynamicObject>| {
        o.metadata.annotations.as_ref().and_then(|a| a.get(CONTENT)) == Some(&content)
    };
    if stored.as_ref().is_some_and(unchanged) {
        return Ok(());
    }
    let mut object = object.clone();
    object["metadata"]["annotations"][CONTENT] = json!(content);
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// FNV-1a over the canonical JSON: tells contents apart, no more.
fn digest(object: &Value) -> String {
    let text = object.to_string();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
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
