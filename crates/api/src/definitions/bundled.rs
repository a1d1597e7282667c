//! Definitions that come with the program: many at once, before anybody else writes.

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;
use sluice_schema::Kind;
use sluice_schema::managed::{self, OnlyVersion, Writer};

use super::{MANAGER, definition_kind, group_names, names, serving};
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::rules;
use crate::server::Server;
use crate::storage::Key;

/// Creates these definitions as if `manager` had applied them one by one, but in one commit and with one publication. They are
/// known to be valid.
pub(crate) async fn install(server: &Server, manager: &str, definitions: &[Value]) -> Result<(), Refusal> {
    let _turn = server.inner.serving.turn().await;
    let kind = definition_kind(server);
    let mut accepted: Vec<(String, Value)> = Vec::new();
    let mut ready = Vec::new();
    for definition in definitions {
        let group = definition.text("/spec/group").to_owned();
        let stored = group_names(server, &group).into_values();
        let others: Vec<Value> =
            stored.chain(accepted.iter().filter(|(of, _)| *of == group).map(|(_, names)| names.clone())).collect();
        let object = established(&kind, manager, definition, &others)?;
        accepted.push((group, object["status"]["acceptedNames"].clone()));
        ready.push(object);
    }
    let writes = ready.iter().map(|object| {
        let key = Key::new(&kind, "", object.name());
        let (server, kind) = (server.clone(), kind.clone());
        async move { server.storage().create(&kind, &key, object.name(), object).await }
    });
    try_join_all(writes).await?;
    serving::publish(server);
    Ok(())
}

/// A definition as it is once its names were accepted.
fn established(kind: &Kind, manager: &str, definition: &Value, others: &[Value]) -> Result<Value, Refusal> {
    let writer = Writer { kind, manager, subresource: None, now: Timestamp::now(), versions: &OnlyVersion };
    let mut object = managed::apply(&writer, None, definition, false).map_err(rules::refused)?;
    rules::typed(kind, &mut object).map_err(Refusal::Unexplained)?;
    rules::prepare_create(kind, &mut object);
    rules::complete(kind, &mut object);
    object.set_meta("uid", random::uid());
    object.set_meta("creationTimestamp", random::now());
    let before = object.clone();
    names::accept(&mut object, others);
    rules::track_status(kind, &before, &mut object, MANAGER);
    Ok(object)
}
