//! `sluice delete`.

use kube::api::DeleteParams;
use kube::runtime::wait::{await_condition, conditions};

use super::apply::{qualified, type_of};
use crate::connect::{Connection, connect};
use crate::documents;
use crate::exit::Exit;
use crate::flags::Delete;
use crate::kinds::{Kinds, Served, kind_and_name};
use crate::printer;

pub(crate) async fn run(flags: Delete) -> anyhow::Result<Exit> {
    let connection = connect(&flags.connect).await?;
    let kinds = Kinds::ask(&connection.client).await?;
    for (served, namespace, name) in wanted(&flags, &connection, &kinds)? {
        let api = served.api(connection.client.clone(), &namespace);
        let deleted = match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 && flags.ignore_not_found => continue,
            other => other?,
        };
        if let Some(uid) = deleted.left().and_then(|object| object.metadata.uid)
            && !flags.no_wait
        {
            await_condition(api, &name, conditions::is_deleted(&uid)).await?;
        }
        printer::line(&format!("{}/{name} deleted", qualified(&served.resource)));
    }
    Ok(Exit::Ok)
}

/// Kind, namespace and name of everything to delete.
fn wanted<'a>(
    flags: &Delete,
    connection: &Connection,
    kinds: &'a Kinds,
) -> anyhow::Result<Vec<(&'a Served, String, String)>> {
    let mut wanted = Vec::new();
    if let Some(kind) = &flags.kind {
        let (kind, name) = kind_and_name(kind);
        let names = name.map_or_else(|| flags.names.clone(), |name| vec![name.to_owned()]);
        anyhow::ensure!(!names.is_empty(), "say which {kind} to delete");
        let served = kinds.find(kind)?;
        wanted.extend(names.into_iter().map(|name| (served, connection.namespace.clone(), name)));
    }
    if !flags.files.is_empty() {
        // What was applied last goes first.
        for document in documents::read(&flags.files)?.iter().rev() {
            let (api_version, kind) = type_of(document);
            let metadata = &document.object["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or(&connection.namespace);
            let name = metadata["name"].as_str().unwrap_or_default();
            wanted.push((kinds.of(&api_version, &kind)?, namespace.to_owned(), name.to_owned()));
        }
    }
    Ok(wanted)
}
