//! Custom resource definitions: the kinds they make are served as soon as they are stored, and go with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice_schema::{Kind, crd};
use sluice_store::{Entry, Revision};

use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::rules::{self, CLEANUP, is_definition, set_condition};
use crate::server::Server;
use crate::storage::{Key, scope};

/// The name under which the server writes the status of definitions.
const MANAGER: &str = "kube-apiserver";
/// The kinds of definitions as compiled at a revision, so that one definition's write compiles no other.
#[derive(Debug, Default)]
pub(crate) struct Compiled(Mutex<HashMap<String, CompiledAt>>);

/// The kinds of one definition.
#[derive(Debug, Clone)]
struct CompiledAt {
    revision: Revision,
    /// Changes with the spec, and not with the status.
    generation: Value,
    kinds: Vec<Arc<Kind>>,
}

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
        Some(custom) => Box::pin(finish(server, &custom.definition)).await,
        None => Ok(()),
    }
}

/// Refuses new objects of a definition that is going.
pub(crate) fn admit(server: &Server, kind: &Kind, name: &str) -> Result<(), Refusal> {
    let Some(custom) = &kind.custom else { return Ok(()) };
    match definition(server, &custom.definition) {
        Some(entry) if entry.value().being_deleted() => {
            let why = "create not allowed while custom resource definition is terminating";
            Err(Refusal::forbidden(kind, name, why))
        }
        _ => Ok(()),
    }
}

/// Serves what is stored, after a start, and goes on with what was being removed.
pub(crate) async fn resume(server: &Server) -> Result<(), Refusal> {
    publish(server);
    for entry in all(server) {
        if entry.value().being_deleted() {
            clean_up(server, entry.value().name()).await?;
        }
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

/// Decides which names of the definitions of a group are accepted, writes that down, and serves the result.
async fn accept_group(server: &Server, kind: &Kind, group: &str) -> Result<(), Refusal> {
    let names: Vec<String> = all(server)
        .iter()
        .filter(|entry| entry.value().text("/spec/group") == group)
        .map(|entry| entry.value().name().to_owned())
        .collect();
    for name in names {
        while let Some(entry) = definition(server, &name) {
            let others: Vec<Arc<Entry>> = all(server)
                .into_iter()
                .filter(|o| o.key != entry.key && o.value().text("/spec/group") == group)
                .collect();
            let mut new = entry.value().clone();
            accept(&mut new, &others);
            if new == *entry.value() {
                break;
            }
            rules::track_status(kind, entry.value(), &mut new, MANAGER);
            if server.storage().replace(&Key(entry.key.to_string()), entry.revision, &new).await?.is_some() {
                break;
            }
        }
    }
    publish(server);
    Ok(())
}

/// Writes into the status which names the definition gets beside the others of its group.
fn accept(definition: &mut Value, others: &[Arc<Entry>]) {
    let taken = |fields: &[&str], name: &str| {
        others.iter().any(|other| {
            let accepted = &other.value()["status"]["acceptedNames"];
            let shorts = accepted["shortNames"].as_array();
            let is_short = fields.contains(&"shortNames") && shorts.is_some_and(|list| list.iter().any(|s| s == name));
            is_short || fields.iter().any(|field| accepted[*field] == name)
        })
    };
    const RESOURCES: [&str; 3] = ["plural", "singular", "shortNames"];
    const KINDS: [&str; 2] = ["kind", "listKind"];
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = definition["status"]["acceptedNames"].clone();
    if !accepted.is_object() {
        accepted = json!({"plural": "", "kind": ""});
    }
    let mut conflict: Option<(&str, String)> = None;
    for (field, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        let name = wanted[field].as_str().unwrap_or_default();
        if taken(&RESOURCES, name) {
            conflict = Some((reason, name.to_owned()));
        } else {
            accepted[field] = json!(name);
        }
    }
    let shorts: Vec<&str> = wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match shorts.iter().find(|short| taken(&RESOURCES, short)) {
        Some(short) => conflict = Some(("ShortNamesConflict", (*short).to_owned())),
        None if shorts.is_empty() => {
            accepted.as_object_mut().expect("it was made an object").remove("shortNames");
        }
        None => accepted["shortNames"] = json!(shorts),
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        let name = wanted[field].as_str().unwrap_or_default();
        if taken(&KINDS, name) {
            conflict = Some((reason, name.to_owned()));
        } else {
            accepted[field] = json!(name);
        }
    }
    match wanted.get("categories") {
        Some(categories) => accepted["categories"] = categories.clone(),
        None => {
            accepted.as_object_mut().expect("it was made an object").remove("categories");
        }
    }
    definition["status"]["acceptedNames"] = accepted;
    let established = definition["status"]["conditions"]
        .as_array()
        .is_some_and(|list| list.iter().any(|c| c["type"] == "Established" && c["status"] == "True"));
    match conflict {
        None => {
            set_condition(definition, "NamesAccepted", true, "NoConflicts", "no conflicts found");
            if !established {
                let message = "the initial names have been accepted";
                set_condition(definition, "Established", true, "InitialNamesAccepted", message);
            }
        }
        Some((reason, name)) => {
            set_condition(definition, "NamesAccepted", false, reason, &format!("{name:?} is already in use"));
            if !established {
                set_condition(definition, "Established", false, "NotAccepted", "not all names are accepted");
            }
        }
    }
}

/// Serves the kinds of all established definitions, and of no others.
fn publish(server: &Server) {
    let mut compiled = server.inner.compiled.0.lock().expect("nobody panics while publishing");
    let definitions = all(server);
    let mut next = HashMap::new();
    let mut custom = Vec::new();
    for entry in definitions.iter().filter(|entry| is_established(entry.value())) {
        let name = entry.value().name().to_owned();
        let made = compiled.get(&name).filter(|made| made.is_of(entry)).cloned().unwrap_or_else(|| compile(entry));
        custom.extend(made.kinds.iter().cloned());
        next.insert(name, CompiledAt { revision: entry.revision, ..made });
    }
    *compiled = next;
    server.registry().publish(custom);
    server.inner.documents.keep_only(&server.registry().kinds());
}

impl CompiledAt {
    fn is_of(&self, entry: &Entry) -> bool {
        self.revision == entry.revision || self.generation == entry.value()["metadata"]["generation"]
    }
}

fn compile(entry: &Entry) -> CompiledAt {
    // What was stored was valid; what is not (any more) is not served.
    let mut kinds = crd::compile(entry.value()).unwrap_or_default();
    for custom in kinds.iter_mut().filter_map(|kind| kind.custom.as_mut()).filter_map(Arc::get_mut) {
        custom.since = entry.revision.0;
    }
    let generation = entry.value()["metadata"]["generation"].clone();
    CompiledAt { revision: entry.revision, generation, kinds: kinds.into_iter().map(Arc::new).collect() }
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
}

/// Deletes the objects of a definition that is going; those with finalizers stay until these are gone.
async fn clean_up(server: &Server, name: &str) -> Result<(), Refusal> {
    let Some(entry) = definition(server, name) else { return Ok(()) };
    for object in objects(server, entry.value()) {
        let key = Key(object.key.to_string());
        let value = object.value();
        if value.finalizers().is_empty() {
            server.storage().remove(&key, object.revision, value).await?;
        } else if !value.being_deleted() {
            let mut marked = value.clone();
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
        if !live.being_deleted() || !objects(server, live).is_empty() {
            return Ok(());
        }
        let finalizers: Vec<String> = live.finalizers().into_iter().filter(|f| f != CLEANUP).collect();
        let mut new = live.clone();
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
