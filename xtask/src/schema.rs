//! Joins what is published about the built-in kinds into the files of `crates/schema/data`.
//!
//! Two sources, both published with Kubernetes: the folder `api` of its repository (discovery and OpenAPI v3 documents),
//! and the facts of the Go types that `xtask/facts` prints (`cd xtask/facts && go run . > FILE`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use crate::{kinds, prose, read_json, types, write};

/// What `xtask/facts` prints.
#[derive(Deserialize)]
pub(crate) struct Facts {
    pub(crate) types: BTreeMap<String, GoType>,
    /// `apps/v1/Deployment` to the published name of its type.
    pub(crate) kinds: BTreeMap<String, String>,
    pub(crate) tables: Vec<Table>,
}

#[derive(Deserialize)]
pub(crate) struct GoType {
    fields: Option<Vec<GoField>>,
    #[serde(default)]
    pub(crate) inlines: Vec<Inline>,
}

impl GoType {
    pub(crate) fn fields(&self) -> &[GoField] {
        self.fields.as_deref().unwrap_or_default()
    }
}

#[derive(Deserialize)]
pub(crate) struct GoField {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) via: String,
    pub(crate) shape: String,
    pub(crate) go: String,
    #[serde(default)]
    pub(crate) pointer: bool,
    #[serde(default)]
    pub(crate) omit: String,
    #[serde(default)]
    pub(crate) tag: u32,
}

#[derive(Deserialize)]
pub(crate) struct Inline {
    pub(crate) tag: u32,
    #[serde(rename = "type")]
    pub(crate) name: String,
}

#[derive(Deserialize)]
pub(crate) struct Table {
    #[serde(rename = "type")]
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i32,
}

/// The definitions of all OpenAPI v3 documents by their published names.
pub(crate) type Definitions = BTreeMap<String, Value>;

pub(crate) fn generate(published: &Path, facts: &Path) -> anyhow::Result<()> {
    let facts: Facts = serde_json::from_value(read_json(facts)?).context("the facts have another shape")?;
    let definitions = definitions(&published.join("openapi-spec/v3"))?;
    let served = kinds::served(&published.join("discovery"))?;
    let names = types::reachable(&facts, &served);
    write("types.txt", types::print(&facts, &definitions, &names)?)?;
    write("kinds.txt", kinds::print(&facts, &served)?)?;
    write("columns.txt", prose::columns(&facts))?;
    write("prose.json.deflate", prose::descriptions(&definitions, &names)?)
}

fn definitions(folder: &Path) -> anyhow::Result<Definitions> {
    let mut all = Definitions::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    for entry in entries {
        let mut document = read_json(&entry?.path())?;
        if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas").map(Value::take) {
            all.extend(schemas);
        }
    }
    Ok(all)
}
