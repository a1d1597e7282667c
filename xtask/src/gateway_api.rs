//! The Gateway API definitions as data: the published files without their prose.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::write;

const GROUP: &str = "gateway.networking.k8s.io";
/// Annotations that say which release the definitions are; tools read them.
const KEPT_ANNOTATIONS: [&str; 3] =
    ["gateway.networking.k8s.io/bundle-version", "gateway.networking.k8s.io/channel", "api-approved.kubernetes.io"];

/// Reads the YAML files of a folder and writes one compact JSON file each.
pub(crate) fn generate(folder: &Path) -> anyhow::Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        // Beside the definitions lie the policies that guard their upgrade.
        if !text.contains("kind: CustomResourceDefinition") {
            continue;
        }
        let mut definition: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("`{}` is no YAML", path.display()))?;
        // The experimental channel brings groups whose objects nobody serves here.
        if definition["spec"]["group"] != GROUP {
            continue;
        }
        strip(&mut definition);
        let plural = definition["spec"]["names"]["plural"].as_str().context("a definition has a plural")?.to_owned();
        write(&format!("gateway-api/{plural}.json"), serde_json::to_vec(&definition)?)?;
    }
    Ok(())
}

fn strip(definition: &mut Value) {
    if let Some(annotations) = definition["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| KEPT_ANNOTATIONS.contains(&key.as_str()));
    }
    if let Some(root) = definition.as_object_mut() {
        root.remove("status");
    }
    for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
        strip_schema(&mut version["schema"]["openAPIV3Schema"]);
    }
}

/// Removes the prose of a schema, not fields that are called `description`.
fn strip_schema(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("description");
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(strip_schema);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = schema.get_mut(key) {
            strip_schema(inner);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for inner in schema.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            strip_schema(inner);
        }
    }
}
