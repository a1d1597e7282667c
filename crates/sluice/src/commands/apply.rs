//! `sluice apply`: server-side apply of every object, in an order that lets them find each other.

use anyhow::Context as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;

use crate::connect::{Connection, connect};
use crate::documents::{self, Document};
use crate::exit::Exit;
use crate::flags::Apply;
use crate::kinds::Kinds;
use crate::printer;

/// The field manager of everything the commands write.
pub(crate) const MANAGER: &str = "sluice";

pub(crate) async fn run(flags: Apply) -> anyhow::Result<Exit> {
    let documents = documents::read(&flags.files)?;
    let connection = connect(&flags.connect).await?;
    let note = if flags.dry_run { " (dry run)" } else { "" };
    apply(&connection, documents, flags.dry_run, flags.force, |what, done| {
        printer::line(&format!("{what} {done}{note}"));
    })
    .await?;
    Ok(Exit::Ok)
}

/// Applies everything; `tell` hears of each object and what became of it.
pub(crate) async fn apply(
    connection: &Connection,
    mut documents: Vec<Document>,
    dry_run: bool,
    force: bool,
    mut tell: impl FnMut(&str, &str),
) -> anyhow::Result<()> {
    documents.sort_by_key(|d| order(d.object["kind"].as_str().unwrap_or_default()));
    let params = PatchParams {
        dry_run,
        force,
        field_manager: Some(MANAGER.to_owned()),
        field_validation: Some(kube::api::ValidationDirective::Strict),
    };
    let mut kinds = Kinds::ask(&connection.client).await?;
    for document in documents {
        let (api_version, kind) = type_of(&document);
        if kinds.of(&api_version, &kind).is_err() {
            // A definition applied just before may serve it by now.
            kinds = Kinds::ask(&connection.client).await?;
        }
        let served = kinds.of(&api_version, &kind).with_context(|| format!("in `{}`", document.source))?;
        let name = document.object["metadata"]["name"].as_str().unwrap_or_default();
        anyhow::ensure!(!name.is_empty(), "a {kind} in `{}` has no `metadata.name`", document.source);
        // Its own namespace, or the one the user means.
        let namespace = document.object["metadata"]["namespace"].as_str().unwrap_or(&connection.namespace);
        let api = served.api(connection.client.clone(), namespace);
        let done = apply_one(&api, name, &params, &document)
            .await
            .with_context(|| format!("cannot apply {kind} `{name}` from `{}`", document.source))?;
        tell(&format!("{}/{name}", qualified(&served.resource)), done);
    }
    Ok(())
}

async fn apply_one(
    api: &Api<DynamicObject>,
    name: &str,
    params: &PatchParams,
    document: &Document,
) -> kube::Result<&'static str> {
    let before = api.get_metadata_opt(name).await?.and_then(|o| o.metadata.resource_version);
    let after = api.patch(name, params, &Patch::Apply(&document.object)).await?.metadata.resource_version;
    Ok(match before {
        None => "created",
        Some(_) if before == after => "unchanged",
        Some(_) => "configured",
    })
}

/// `deployment.apps`, as messages name a kind.
pub(crate) fn qualified(resource: &ApiResource) -> String {
    let kind = resource.kind.to_lowercase();
    if resource.group.is_empty() { kind } else { format!("{kind}.{}", resource.group) }
}

pub(crate) fn type_of(document: &Document) -> (String, String) {
    let text = |field: &str| document.object[field].as_str().unwrap_or_default().to_owned();
    (text("apiVersion"), text("kind"))
}

/// What others need comes first; the rest keeps the order of the files.
fn order(kind: &str) -> u8 {
    match kind {
        "Namespace" | "CustomResourceDefinition" => 0,
        "ServiceAccount" | "ConfigMap" | "Secret" | "ProcessImage" | "GatewayClass" => 1,
        _ => 2,
    }
}
