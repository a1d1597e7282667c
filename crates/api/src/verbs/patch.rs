//! Patches of all four kinds: the patch makes a new state of the live object, which then goes the way of an update.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;
use sluice_store::Entry;

use super::write::{ATTEMPTS, judge_fields, wanted_revision};
use super::{create, update};
use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::{Named, Refusal};
use crate::request::{PatchFormat, WriteOptions};
use crate::rules;

/// The most operations in one JSON patch.
const JSON_PATCH_OPERATIONS: usize = 10_000;

pub(crate) async fn patch(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = PatchFormat::of(call.content_type.as_deref(), kind)?;
    let options = WriteOptions::parse_patch(&call.query, &call.user_agent, format == PatchFormat::Apply)?;
    if format == PatchFormat::Apply {
        return apply(call, &options).await;
    }
    for _ in 0..ATTEMPTS {
        let old = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(kind, call.name()))?;
        let new = patched(call, &old, format, &options)?;
        let pinned = check_identity(call, &old, &new)?;
        let new = update::change(call, &old, new, Some(&options.manager))?;
        match update::commit(call, &old, new, options.dry_run).await? {
            Some(response) => return Ok(response),
            None if pinned => break,
            None => {}
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

/// The live object with the patch applied, read again as its kind.
pub(crate) fn patched(call: &Call, old: &Entry, format: PatchFormat, options: &WriteOptions) -> Result<Value, Refusal> {
    let kind = call.kind();
    let body = parse(&call.body, format)?;
    let mut new = rules::patch(kind, old.value(), format, &body)?;
    let typed = rules::typed_patch(kind, &mut new)?;
    judge_fields(call, kind, options.validation, typed)?;
    if new.name() != call.name() && !new.name().is_empty() {
        return Err(Refusal::bad(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            new.name(),
            call.name()
        )));
    }
    Ok(new)
}

fn parse(body: &[u8], format: PatchFormat) -> Result<Value, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|error| rules::undecodable_patch(body, format, &error))?;
    if format == PatchFormat::Json {
        let count = value.as_array().map_or(0, Vec::len);
        if count > JSON_PATCH_OPERATIONS {
            return Err(Refusal::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS}, got {count}"
            )));
        }
    }
    Ok(value)
}

/// A patch may carry a revision it insists on. Whether it does.
fn check_identity(call: &Call, old: &Entry, new: &Value) -> Result<bool, Refusal> {
    let live = old.value().resource_version();
    let wanted = new.resource_version();
    if wanted == live || wanted.is_empty() || wanted == "0" {
        return Ok(false);
    }
    wanted_revision(new)?;
    Err(Refusal::stale(call.kind(), call.name()))
}

/// Server-side apply: creates what is missing.
async fn apply(call: &Call, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let intent = rules::apply_body(call, options)?;
    for _ in 0..ATTEMPTS {
        let old = call.server.storage().get(&call.key());
        match &old {
            None if call.target.subresource.is_some() => return Err(Refusal::not_found(kind, call.name())),
            None => return apply_new(call, &intent, options).await,
            Some(old) => {
                if let Some(wanted) = wanted_revision(&intent)?
                    && wanted != old.revision.0
                {
                    return Err(Refusal::stale(kind, call.name()));
                }
                let new = rules::apply(kind, Some(old.value()), &intent, options, call.target.subresource.as_deref())?;
                if let Some(response) = applied(call, old, new, options).await? {
                    return Ok(response);
                }
            }
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

async fn applied(
    call: &Call,
    old: &Arc<Entry>,
    new: Value,
    options: &WriteOptions,
) -> Result<Option<Response<Body>>, Refusal> {
    let new = update::change(call, old, new, None)?;
    update::commit(call, old, new, options.dry_run).await
}

async fn apply_new(call: &Call, intent: &Value, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    if !intent.uid().is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {}, and no existing object was found",
            intent.uid()
        );
        return Err(Refusal::Conflict { named: Named::of(kind, call.name()), why });
    }
    let mut object = rules::apply(kind, None, intent, options, None)?;
    object.drop_meta("resourceVersion");
    create::place(kind, &mut object, call.namespace())?;
    let response = create::finish(call, object, options).await;
    response.map(|response| {
        debug_assert_eq!(response.status(), StatusCode::CREATED);
        response
    })
}
