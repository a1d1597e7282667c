//! Replacing an object by a PUT.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;
use sluice_schema::Fault;
use sluice_store::Entry;

use super::create;
use super::write::{ATTEMPTS, judge_fields, replace, valid, wanted_revision};
use crate::admission;
use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::request::{BodyFormat, WriteOptions};
use crate::rules;
use crate::versions;

pub(crate) async fn update(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = BodyFormat::of(call.content_type.as_deref(), kind)?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "UpdateOptions")?;
    let mut decoded = rules::decode(kind, format, &call.body)?;
    judge_fields(call, kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let mut sent = decoded.object;
    named_as_in_path(call, &mut sent)?;
    admission::dedup(call, &mut sent, admission::Found::InTheBody);
    let wanted = wanted_revision(&sent)?;
    for _ in 0..ATTEMPTS {
        let Some(old) = call.server.storage().get(&call.key()) else {
            return create_by_put(call, sent, &options).await;
        };
        check_revision(call, &sent, wanted, &old)?;
        let live = versions::live(kind, &old);
        let new = change(call, &live, sent.clone(), call.target.subresource.as_deref(), Some(&options.manager))?;
        if let Some(response) = commit(call, &old, new, options.dry_run).await? {
            return Ok(response);
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

/// Everything between the state that the caller wants and the one to store.
///
/// `manager` is absent when the managed fields of `new` are right already, as after an apply.
pub(crate) fn change(
    call: &Call,
    live: &Value,
    mut new: Value,
    subresource: Option<&str>,
    manager: Option<&str>,
) -> Result<Value, Refusal> {
    let kind = call.kind();
    if let Some(manager) = manager {
        rules::track_update(call, live, &mut new, manager, subresource);
    }
    keep_identity(live, &mut new);
    admission::update(call, live, &mut new)?;
    admission::dedup(call, &mut new, admission::Found::AfterAdmission);
    rules::prepare_update(kind, &mut new, live, subresource);
    rules::complete(kind, &mut new);
    rules::settle(&mut new, live);
    valid(kind, call.name(), rules::validate_update(kind, &new, live, subresource))?;
    admission::judge(call, Some(live), &new)?;
    rules::warnings(kind, &new, Some(live)).into_iter().for_each(|text| call.notices.add(text));
    Ok(new)
}

/// Stores the new state, or only shows it; what the last finalizer held goes. `None`: somebody else was faster.
pub(crate) async fn commit(
    call: &Call,
    old: &Arc<Entry>,
    mut new: Value,
    dry_run: bool,
) -> Result<Option<Response<Body>>, Refusal> {
    let claim = admission::claim(call, Some(&versions::live(call.kind(), old)), &mut new)?;
    if dry_run {
        admission::charge(call, Some(&old.value()), &new).await?;
        return render::object(call, StatusCode::OK, new).map(Some);
    }
    if super::settle(call.kind(), &new) {
        let stored = versions::to_storage(&call.server.registry().kinds(), call.kind(), new.clone());
        let gone = call.server.storage().remove(&call.key(), old.revision, &stored).await?;
        let Some(gone) = gone else { return Ok(None) };
        admission::release(&call.server, call.kind(), &gone.value());
        crate::definitions::removed(&call.server, call.kind(), &gone.value()).await?;
        return render::object(call, StatusCode::OK, new).map(Some);
    }
    let Some(entry) = replace(call, old, new).await? else { return Ok(None) };
    claim.keep();
    crate::definitions::written(&call.server, call.kind(), &entry.value()).await?;
    render::entry(call, StatusCode::OK, &entry).map(Some)
}

/// Changes the object at the path by `edit`, until nobody else is faster. Answers the object as it is then.
///
/// `subresource` says what such a change may touch, whatever path it came by.
pub(crate) async fn edit(
    call: &Call,
    subresource: Option<&str>,
    dry_run: bool,
    edit: impl Fn(&Value) -> Result<Value, Refusal>,
) -> Result<Value, Refusal> {
    let (kind, storage) = (call.kind(), call.server.storage());
    for _ in 0..ATTEMPTS {
        let old = storage.get(&call.key()).ok_or_else(|| Refusal::not_found(kind, call.name()))?;
        let live = versions::live(kind, &old);
        let new = change(call, &live, edit(&live)?, subresource, None)?;
        if dry_run {
            return Ok(new);
        }
        if let Some(entry) = replace(call, &old, new).await? {
            return Ok(Arc::unwrap_or_clone(versions::live(kind, &entry)));
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

/// The name and namespace of a body must be those of the path.
pub(crate) fn named_as_in_path(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let own = object.name();
    if own.is_empty() {
        return Err(Refusal::bad(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name()
        )));
    }
    if own != call.name() {
        return Err(Refusal::bad(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    create::place(call.kind(), object, call.namespace())
}

/// A PUT of something that is not there creates it for some kinds.
async fn create_by_put(call: &Call, mut sent: Value, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    if !rules::put_creates(kind) {
        return Err(Refusal::not_found(kind, call.name()));
    }
    if !sent.uid().is_empty() {
        return Err(other_uid(call, sent.uid(), ""));
    }
    sent.drop_meta("resourceVersion");
    create::store(call, sent, options).await
}

fn check_revision(call: &Call, sent: &Value, wanted: Option<u64>, old: &Entry) -> Result<(), Refusal> {
    let kind = call.kind();
    match wanted {
        Some(wanted) if wanted != old.revision.0 => return Err(Refusal::stale(kind, call.name())),
        None if !rules::unconditional_update(kind) => {
            let fault = Fault::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            // This one names the resource instead of the kind.
            return Err(Refusal::Invalid {
                group: kind.group.clone(),
                kind: kind.plural.clone(),
                name: call.name().to_owned(),
                faults: vec![fault],
            });
        }
        _ => {}
    }
    let old = old.value();
    let (own, live) = (sent.uid(), old.uid());
    if !own.is_empty() && own != live {
        return Err(other_uid(call, own, live));
    }
    Ok(())
}

/// The object of this name is not the one that is meant.
pub(crate) fn other_uid(call: &Call, wanted: &str, live: &str) -> Refusal {
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
         UID in precondition: {wanted}, UID in object meta: {live}",
        rules::registry_key(call.kind(), call.namespace(), call.name()),
    );
    Refusal::Conflict { named: Named::of(call.kind(), call.name()), why }
}

/// What no writer changes: who the object is, and since when.
pub(crate) fn keep_identity(live: &Value, new: &mut Value) {
    for field in ["creationTimestamp", "selfLink", "generation"] {
        restore(live, new, field);
    }
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new["metadata"].get(field).is_none_or(|v| v.is_null() || v == "") {
            restore(live, new, field);
        }
    }
    restore(live, new, "resourceVersion");
}

fn restore(live: &Value, new: &mut Value, field: &str) {
    match live["metadata"].get(field) {
        Some(value) => new.set_meta(field, value.clone()),
        None => new.drop_meta(field),
    }
}
