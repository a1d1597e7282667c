//! Deleting an object: at once, or by marking it until its finalizers and its grace have run out.

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice_schema::Kind;
use sluice_store::Entry;

use super::write::ATTEMPTS;
use crate::admission;
use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::request::{BodyFormat, DeleteOptions, Propagation};
use crate::rules;
use crate::storage::Key;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

pub(crate) async fn delete(call: &Call) -> Result<Response<Body>, Refusal> {
    let options = options(call)?;
    if options.propagation.is_none()
        && let Some(notice) = rules::deletion_notice(call.kind())
    {
        call.notices.add(notice);
    }
    let (object, gone) = delete_one(call, &call.key(), call.name(), &options).await?;
    if !gone || rules::delete_answers_object(call.kind()) {
        return render::object(call, StatusCode::OK, object);
    }
    let kind = call.kind();
    let mut details = json!({"name": object.name(), "kind": kind.plural, "uid": object.uid()});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    Ok(render::success(call, StatusCode::OK, details))
}

/// The options of this delete; a body replaces the query.
pub(crate) fn options(call: &Call) -> Result<DeleteOptions, Refusal> {
    if call.body.is_empty() {
        return DeleteOptions::parse(&call.query, None);
    }
    let format = BodyFormat::of(call.content_type.as_deref(), call.kind())?;
    let body = rules::decode_delete_options(format, &call.body)?;
    DeleteOptions::parse(&call.query, Some(&body))
}

/// Deletes the object at `key`. Answers its last state, and whether it is gone.
pub(crate) async fn delete_one(
    call: &Call,
    key: &Key,
    name: &str,
    options: &DeleteOptions,
) -> Result<(Value, bool), Refusal> {
    let (kind, storage) = (call.kind(), call.server.storage());
    for _ in 0..ATTEMPTS {
        let entry = storage.get(key).ok_or_else(|| Refusal::not_found(kind, name))?;
        check_preconditions(kind, name, &entry, options)?;
        admission::delete(call, &entry.value())?;
        let mut marked = marked(call, &entry.value(), options);
        let gone = settle(kind, &marked);
        if gone && !rules::graceful(kind) && !entry.value().being_deleted() {
            // What goes at once goes as it was.
            marked = entry.to_value();
        }
        if options.dry_run {
            return Ok((marked, gone));
        }
        let written = if gone {
            storage.remove(key, entry.revision, &marked).await?
        } else if marked == *entry.value() {
            return Ok((marked, false));
        } else {
            storage.replace(key, entry.revision, &marked).await?
        };
        let Some(written) = written else { continue };
        if gone {
            admission::release(&call.server, kind, &written.value());
            crate::definitions::removed(&call.server, kind, &written.value()).await?;
        } else {
            crate::definitions::written(&call.server, kind, &written.value()).await?;
        }
        return Ok((written.to_value(), gone));
    }
    Err(Refusal::stale(kind, name))
}

/// Whether nothing holds the object any longer: it is marked, and no finalizer and no grace is left.
pub(crate) fn settle(kind: &Kind, object: &Value) -> bool {
    object.being_deleted()
        && object.finalizers().is_empty()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !rules::held(kind, object)
}

fn check_preconditions(kind: &Kind, name: &str, entry: &Entry, options: &DeleteOptions) -> Result<(), Refusal> {
    let conflict = |why: String| Err(Refusal::Conflict { named: Named::by_kind(kind, name), why });
    let found = entry.value();
    let live = found.uid();
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != live) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({live}). The object might have been \
             deleted and then recreated"
        ));
    }
    let live = entry.revision.to_string();
    if let Some(revision) = options.resource_version.as_deref().filter(|revision| *revision != live) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({live}). \
             The object might have been modified"
        ));
    }
    Ok(())
}

/// The object as this delete leaves it: marked, with the finalizers of its policy and its grace.
fn marked(call: &Call, live: &Value, options: &DeleteOptions) -> Value {
    let kind = call.kind();
    let mut object = live.clone();
    let finalizers = finalizers(call, live, options);
    if finalizers != live.finalizers() {
        if finalizers.is_empty() {
            object.drop_meta("finalizers");
        } else {
            object.set_meta("finalizers", finalizers.clone());
        }
    }
    let grace = rules::grace(kind, live, options.grace_seconds);
    if live.being_deleted() {
        shorten(live, &mut object, grace);
        return object;
    }
    let end = Timestamp::now() + SignedDuration::from_secs(grace.unwrap_or(0));
    object.set_meta("deletionTimestamp", random::at(end));
    if let Some(grace) = grace {
        object.set_meta("deletionGracePeriodSeconds", grace);
    }
    let generation = live["metadata"]["generation"].as_i64().filter(|g| *g > 0 && !rules::is_definition(kind));
    if let Some(generation) = generation {
        object.set_meta("generation", generation + 1);
    }
    rules::mark_deleted(kind, &mut object);
    object
}

/// A second delete may bring the end nearer, never push it away.
fn shorten(live: &Value, object: &mut Value, grace: Option<i64>) {
    let Some(before) = live["metadata"]["deletionGracePeriodSeconds"].as_i64() else { return };
    let Some(grace) = grace.filter(|grace| *grace < before) else { return };
    let end: Option<Timestamp> = live.text("/metadata/deletionTimestamp").parse().ok();
    let end = end.unwrap_or_else(Timestamp::now) - SignedDuration::from_secs(before - grace);
    object.set_meta("deletionTimestamp", random::at(end));
    object.set_meta("deletionGracePeriodSeconds", grace);
}

fn finalizers(call: &Call, live: &Value, options: &DeleteOptions) -> Vec<String> {
    let mut all = live.finalizers();
    let Some(policy) = options.propagation.or_else(|| rules::default_propagation(call.kind())) else { return all };
    let (wanted, unwanted) = match policy {
        Propagation::Foreground => (Some(FOREGROUND), ORPHAN),
        Propagation::Orphan => (Some(ORPHAN), FOREGROUND),
        Propagation::Background => {
            all.retain(|f| f != FOREGROUND && f != ORPHAN);
            return all;
        }
    };
    all.retain(|finalizer| finalizer != unwanted);
    if let Some(wanted) = wanted
        && !all.iter().any(|finalizer| finalizer == wanted)
    {
        all.push(wanted.to_owned());
    }
    all
}
