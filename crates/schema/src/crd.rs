//! Custom resources: a definition becomes the same kind of table entry that built-in kinds have.
//!
//! [`compile`] turns a CustomResourceDefinition into one [`Kind`] per served version. What such kinds need beyond their types
//! stands in [`Custom`]: [`prune`] and [`drop_nulls`] shape what comes in, [`apply_defaults`] fills it, [`check`] judges it.
//! `definition` judges the definitions themselves.

mod check;
mod definition;
mod formats;
mod rules;
mod schema;
mod shape;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::fault::Fault;
use crate::kinds::{Kind, Subresource};

pub use check::{Verdict, check};
pub use definition::{apply_definition_defaults, check_definition, check_definition_update};
pub use schema::Schema;
pub use shape::{apply_defaults, drop_nulls, prune};

/// What only custom resources have beside their types.
#[derive(Debug)]
pub struct Custom {
    /// The definition's name, `widgets.example.org`.
    pub definition: String,
    pub schema: Schema,
    /// `openAPIV3Schema` as it was written: for publishing, and for the rules.
    pub open_api: Value,
    pub columns: Vec<Column>,
    pub scale: Option<Scale>,
    /// Field paths that field selectors may name, without the leading dot.
    pub selectable: Vec<String>,
    /// What reading or writing this version is answered with as a warning.
    pub deprecation: Option<String>,
    /// The revision since which objects are stored in this shape; the server says it. Older ones are shaped when read.
    pub since: u64,
    rules: OnceLock<rules::Rules>,
}

/// One of `additionalPrinterColumns`.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub json_path: String,
}

/// Where the scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The kinds a definition serves, in the order of its versions; faults if it is not valid.
///
/// The names are those the definition was accepted with (`status.acceptedNames`), or its own where it has no status yet.
pub fn compile(definition: &Value) -> Result<Vec<Kind>, Vec<Fault>> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().find(|v| v["storage"] == true).unwrap_or(&Value::Null);
    versions
        .iter()
        .filter(|v| v["served"] == true)
        .map(|version| kind(definition, version, &text(&stored["name"])))
        .collect()
}

fn kind(definition: &Value, version: &Value, storage_version: &str) -> Result<Kind, Vec<Fault>> {
    let spec = &definition["spec"];
    let accepted = &definition["status"]["acceptedNames"];
    let names = if accepted["plural"].as_str().is_some_and(|p| !p.is_empty()) { accepted } else { &spec["names"] };
    let group = text(&spec["group"]);
    let name = text(&version["name"]);
    let kind_name = text(&names["kind"]);
    let open_api = version["schema"]["openAPIV3Schema"].clone();
    let preserve_root = spec["preserveUnknownFields"] == true;
    let schema = Schema::read(&open_api, preserve_root);
    let (arena, root) = schema.types();
    let custom = Custom {
        definition: text(&definition["metadata"]["name"]),
        columns: columns(version),
        scale: scale(version),
        selectable: selectable(version),
        deprecation: deprecation(version, &group, &name, &kind_name),
        schema,
        open_api,
        since: 0,
        rules: OnceLock::new(),
    };
    let plural = text(&names["plural"]);
    Ok(Kind {
        version: name.clone(),
        list_kind: or_else(&names["listKind"], || format!("{kind_name}List")),
        singular: or_else(&names["singular"], || kind_name.to_lowercase()),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: VERBS.map(String::from).to_vec(),
        subresources: subresources(version, &group, &name, &kind_name),
        storage_version_hash: storage_version_hash(&group, storage_version, &kind_name),
        storage_version: storage_version.to_owned(),
        storage_group: group.clone(),
        arena: Arc::new(arena),
        root,
        custom: Some(Arc::new(custom)),
        kind: kind_name,
        group,
        plural,
    })
}

fn subresources(version: &Value, group: &str, name: &str, kind: &str) -> Vec<Subresource> {
    let served = version["subresources"].as_object();
    let verbs = SUBRESOURCE_VERBS.map(String::from).to_vec();
    let mut found = Vec::new();
    if served.is_some_and(|s| s.contains_key("status")) {
        let (group, version) = (group.to_owned(), name.to_owned());
        found.push(Subresource { name: "status".into(), group, version, kind: kind.into(), verbs: verbs.clone() });
    }
    if served.is_some_and(|s| s.contains_key("scale")) {
        let (group, version) = ("autoscaling".to_owned(), "v1".to_owned());
        found.push(Subresource { name: "scale".into(), group, version, kind: "Scale".into(), verbs });
    }
    found
}

fn columns(version: &Value) -> Vec<Column> {
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    columns
        .map(|c| Column {
            name: text(&c["name"]),
            kind: text(&c["type"]),
            format: text(&c["format"]),
            description: text(&c["description"]),
            priority: c["priority"].as_i64().unwrap_or(0),
            json_path: text(&c["jsonPath"]),
        })
        .collect()
}

fn scale(version: &Value) -> Option<Scale> {
    let scale = version["subresources"]["scale"].as_object()?;
    let path = |field: &str| scale.get(field).map(text).unwrap_or_default();
    let label_selector = Some(path("labelSelectorPath")).filter(|p| !p.is_empty());
    Some(Scale { spec_replicas: path("specReplicasPath"), status_replicas: path("statusReplicasPath"), label_selector })
}

fn selectable(version: &Value) -> Vec<String> {
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    fields.map(|f| text(&f["jsonPath"]).trim_start_matches('.').to_owned()).collect()
}

fn deprecation(version: &Value, group: &str, name: &str, kind: &str) -> Option<String> {
    let warning = version["deprecationWarning"].as_str().map(str::to_owned);
    (version["deprecated"] == true).then(|| warning.unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated")))
}

/// The first eight bytes of a digest over `group/version/kind`, as discovery publishes them.
fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("{group}/{version}/{kind}"));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn or_else(value: &Value, other: impl FnOnce() -> String) -> String {
    value.as_str().filter(|t| !t.is_empty()).map_or_else(other, str::to_owned)
}

#[cfg(test)]
mod tests;
