//! Creating an object.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;
use sluice_schema::Kind;
use sluice_store::Entry;

use super::write::{ATTEMPTS, judge_fields, valid};
use crate::admission;
use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::render;
use crate::request::{BodyFormat, WriteOptions};
use crate::rules;
use crate::storage::{Key, exists};
use crate::versions;

/// How many generated names are tried before one is called taken.
const NAMES_TRIED: usize = 8;
/// The longest prefix of a generated name.
const PREFIX_BYTES: usize = 58;

pub(crate) async fn create(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = BodyFormat::of(call.content_type.as_deref(), kind)?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "CreateOptions")?;
    let mut decoded = rules::decode(kind, format, &call.body)?;
    judge_fields(call, kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let mut object = decoded.object;
    // Nobody owns what the server says of a new object.
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        object.drop_meta(field);
    }
    store(call, object, &options).await
}

/// From a decoded object to the answer. Also the end of an apply or a PUT that creates.
pub(crate) async fn store(call: &Call, mut object: Value, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    place(kind, &mut object, call.namespace())?;
    if !object.resource_version().is_empty() {
        return Err(Refusal::Unexplained("resourceVersion should not be set on objects to be created".into()));
    }
    admission::dedup(call, &mut object, admission::Found::InTheBody);
    rules::track_create(call, &mut object, &options.manager);
    finish(call, object, options).await
}

/// The part after the managed fields are known: admission, names, validation, the store.
pub(crate) async fn finish(call: &Call, mut object: Value, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    admission::create(call, &mut object).await?;
    admission::dedup(call, &mut object, admission::Found::AfterAdmission);
    rules::prepare_create(kind, &mut object);
    rules::complete(kind, &mut object);
    let generated = object.name().is_empty() && !object.text("/metadata/generateName").is_empty();
    for attempt in 1.. {
        if generated {
            let name = generate(object.text("/metadata/generateName"));
            object.set_meta("name", name);
        }
        object.set_meta("uid", random::uid());
        object.set_meta("creationTimestamp", random::now());
        object.drop_meta("deletionTimestamp");
        object.drop_meta("deletionGracePeriodSeconds");
        object.drop_meta("selfLink");
        rules::identify(kind, &mut object);
        valid(kind, object.name(), rules::validate_create(kind, &object))?;
        admission::judge(call, None, &object)?;
        let claim = admission::claim(call, None, &mut object)?;
        rules::warnings(kind, &object, None).into_iter().for_each(|text| call.notices.add(text));
        let name = object.name().to_owned();
        let key = Key::new(kind, object.text("/metadata/namespace"), &name);
        if options.dry_run {
            admission::charge(call, None, &object).await?;
            return match call.server.storage().get(&key) {
                Some(entry) => Err(exists(kind, &name, &entry)),
                None => render::object(call, StatusCode::CREATED, object),
            };
        }
        match insert(call, &key, &object).await {
            Ok(entry) => {
                claim.keep();
                crate::definitions::written(&call.server, kind, &entry.value()).await?;
                return render::entry(call, StatusCode::CREATED, &entry);
            }
            Err(Refusal::AlreadyExists(_)) if generated && attempt < NAMES_TRIED => {}
            Err(refusal) => return Err(refusal),
        }
    }
    unreachable!("the loop ends with an answer")
}

/// Stores a new object, and what quotas count with it.
async fn insert(call: &Call, key: &Key, object: &Value) -> Result<Arc<Entry>, Refusal> {
    let (kind, storage) = (call.kind(), call.server.storage());
    let stored = versions::to_storage(&call.server.registry().kinds(), kind, object.clone());
    for _ in 0..ATTEMPTS {
        let charges = admission::charge(call, None, object).await?;
        if let Some(entry) = storage.create_with(kind, key, &stored, charges.changes).await? {
            return Ok(entry);
        }
    }
    Err(Refusal::stale(kind, object.name()))
}

/// Puts the object where the path says it is.
pub(crate) fn place(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), Refusal> {
    if !kind.namespaced {
        object.drop_meta("namespace");
        return Ok(());
    }
    let own = object.text("/metadata/namespace");
    if !own.is_empty() && own != namespace {
        return Err(Refusal::bad(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object.set_meta("namespace", namespace);
    Ok(())
}

fn generate(prefix: &str) -> String {
    let mut end = prefix.len().min(PREFIX_BYTES);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], random::suffix())
}
