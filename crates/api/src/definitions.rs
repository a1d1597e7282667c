//! Custom resource definitions: the kinds they make are served as soon as they are stored, and go with them.

mod bundled;
mod names;
mod serving;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sluice_schema::Kind;
use sluice_store::Entry;

use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::rules::{self, CLEANUP, is_definition, set_condition};
use crate::server::Server;
use crate::storage::{Key, scope};

pub(crate) use bundled::install;
pub(crate) use serving::Serving;

/// The name under which the server writes the status of definitions.
const MANAGER: &str = "kube-apiserver";

/// An object was stored; if it is a definition, its kinds follow.
pub(crate) async fn written(server: &Server, kind: &Kind, object: &Value) -> Result<(), Refusal> {
    if !is_definition(kind) {
        return Ok(());
    }
    accept_group(server, kind, object.text("/spec/group")).await?;
    if object.being_deleted() {
        clean_up(server, object.name()).await?;
    }
    Ok(())
}

/// An object is gone; if it was a definition, its kinds are, too; if it was of a definition that waits, that goes on.
pub(crate) async fn removed(server: &Server, kind: &Kind, object: &Value) -> Result<(), Refusal> {
    if is_definition(kind) {
        return Box::pin(accept_group(server, kind, object.text("/spec/group"))).await;
    }
    match &kind.custom {
        Some(custom) if server.inner.serving.is_going(&custom.definition) => {
            Box::pin(finish(server, &custom.definition)).await
        }
        _ => Ok(()),
    }
}

/// Refuses new objects of a definition that is going.
pub(crate) fn admit(server: &Server, kind: &Kind, name: &str) -> Result<(), Refusal> {
    let Some(custom) = &kind.custom else { return Ok(()) };
    if server.inner.serving.is_going(&custom.definition) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Refusal::forbidden(kind, name, why));
    }
    Ok(())
}

/// Serves what is stored, after a start, and goes on with what was being removed.
pub(crate) async fn resume(server: &Server) -> Result<(), Refusal> {
    serving::publish(server);
    for name in server.inner.serving.going() {
        clean_up(server, &name).await?;
    }
    Ok(())
}

fn definition_kind(server: &Server) -> Arc<Kind> {
    let kinds = server.registry().kinds();
    kinds.find("apiextensions.k8s.io", "v1", "customresourcedefinitions").expect("definitions are built in")
}

fn definition(server: &Server, name: &str) -> Option<Arc<Entry>> {
    server.storage().get_by(&definition_kind(server), "", name)
}

fn all(server: &Server) -> Vec<Arc<Entry>> {
    server.storage().all(&scope(&definition_kind(server), ""))
}

/// The accepted names of the definitions of a group, by the names of these.
fn group_names(server: &Server, group: &str) -> BTreeMap<String, Value> {
    let values = all(server).into_iter().map(|entry| entry.value());
    let of_group = values.filter(|definition| definition.text("/spec/group") == group);
    of_group.map(|definition| (definition.name().to_owned(), definition["status"]["acceptedNames"].clone())).collect()
}

/// Decides which names of the definitions of a group are accepted, writes that down, and serves the result.
async fn accept_group(server: &Server, kind: &Kind, group: &str) -> Result<(), Refusal> {
    // Two at a time could give one name to two definitions.
    let _turn = server.inner.serving.turn().await;
    let mut accepted = group_names(server, group);
    for name in accepted.keys().cloned().collect::<Vec<_>>() {
        accepted.remove(&name);
        let others: Vec<Value> = accepted.values().cloned().collect();
        while let Some(entry) = definition(server, &name) {
            let live = entry.value();
            let mut new = Value::clone(&live);
            names::accept(&mut new, &others);
            accepted.insert(name.clone(), new["status"]["acceptedNames"].clone());
            if new == *live {
                break;
            }
            rules::track_status(kind, &live, &mut new, MANAGER);
            if server.storage().replace(&Key(entry.key.to_string()), entry.revision, &new).await?.is_some() {
                break;
            }
        }
    }
    serving::publish(server);
    Ok(())
}

/// Deletes the objects of a definition that is going; those with finalizers stay until these are gone.
async fn clean_up(server: &Server, name: &str) -> Result<(), Refusal> {
    let Some(entry) = definition(server, name) else { return Ok(()) };
    for object in objects(server, &entry.value()) {
        let key = Key(object.key.to_string());
        let value = object.value();
        if value.finalizers().is_empty() {
            server.storage().remove(&key, object.revision, &value).await?;
        } else if !value.being_deleted() {
            let mut marked = object.to_value();
            marked.set_meta("deletionTimestamp", random::now());
            marked.set_meta("deletionGracePeriodSeconds", 0);
            let generation = value["metadata"]["generation"].as_i64().unwrap_or(0);
            marked.set_meta("generation", generation + 1);
            server.storage().replace(&key, object.revision, &marked).await?;
        }
    }
    finish(server, name).await
}

/// Lets a definition go once no object of it is left.
async fn finish(server: &Server, name: &str) -> Result<(), Refusal> {
    while let Some(entry) = definition(server, name) {
        let live = entry.value();
        if !live.being_deleted() || !objects(server, &live).is_empty() {
            return Ok(());
        }
        let finalizers: Vec<String> = live.finalizers().into_iter().filter(|f| f != CLEANUP).collect();
        let mut new = entry.to_value();
        set_condition(&mut new, "Terminating", false, "InstanceDeletionCompleted", "removed all instances");
        let key = Key(entry.key.to_string());
        let done = if finalizers.is_empty() {
            new.drop_meta("finalizers");
            server.storage().remove(&key, entry.revision, &new).await?
        } else {
            new.set_meta("finalizers", finalizers);
            server.storage().replace(&key, entry.revision, &new).await?
        };
        if done.is_some() {
            let kind = definition_kind(server);
            return Box::pin(accept_group(server, &kind, live.text("/spec/group"))).await;
        }
    }
    Ok(())
}

fn objects(server: &Server, definition: &Value) -> Vec<Arc<Entry>> {
    let (group, plural) = (definition.text("/spec/group"), definition.text("/spec/names/plural"));
    server.storage().all(&format!("/{group}/{plural}/"))
}
