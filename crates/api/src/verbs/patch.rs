//! Patches of all four kinds: the patch makes a new state of the live object, which then goes the way of an update.

use std::sync::Arc;

use http::Response;
use serde_json::{Value, json};
use sluice_schema::{Fault, Kind};
use sluice_store::Entry;

use super::write::{ATTEMPTS, wanted_revision};
use super::{create, update};
use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::{Named, Refusal};
use crate::request::{FieldValidation, PatchFormat, WriteOptions};
use crate::rules::{self, Patch};
use crate::versions;

pub(crate) async fn patch(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = PatchFormat::of(call.content_type.as_deref(), kind)?;
    let options = WriteOptions::parse_patch(&call.query, &call.user_agent, format == PatchFormat::Apply)?;
    if format == PatchFormat::Apply {
        return apply(call, &options).await;
    }
    let mut patch = None;
    for _ in 0..ATTEMPTS {
        let old = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(kind, call.name()))?;
        let patch = match &mut patch {
            Some(patch) => patch,
            // Read only now: a missing object is refused before a broken patch.
            none => none.insert(rules::read_patch(format, &call.body)?),
        };
        let live = versions::live(kind, &old);
        let mut new = patched(call, kind, &live, patch, options.validation)?;
        update::named_as_in_path(call, &mut new)?;
        let pinned = check_revision(call, &old, &new)?;
        let new = update::change(call, &live, new, call.target.subresource.as_deref(), Some(&options.manager))?;
        match update::commit(call, &old, new, options.dry_run).await? {
            Some(response) => return Ok(response),
            None if pinned => break,
            None => {}
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

/// The live object with the patch applied, read again as its kind.
pub(crate) fn patched(
    call: &Call,
    kind: &Kind,
    live: &Value,
    patch: &Patch,
    validation: FieldValidation,
) -> Result<Value, Refusal> {
    let mut new = live.clone();
    patch.apply(kind, &mut new)?;
    let as_patched = new.clone();
    if patch.is_strategic() {
        // Such a patch cannot change what the object is; it is not even looked at.
        new["kind"] = live["kind"].clone();
        new["apiVersion"] = live["apiVersion"].clone();
    }
    let mut notices = patch.notices.clone();
    let misfit = if patch.is_strategic() { rules::misfit(kind, &new) } else { None };
    let misfit = misfit.or_else(|| rules::other_kind(&call.server.registry().kinds(), kind, &new));
    if kind.custom.is_none() && new["apiVersion"].is_null() {
        // Without a version a real server reads into a type that has no names for fields.
        let fields = new.as_object().into_iter().flatten().map(|(name, _)| name);
        notices.extend(fields.filter(|name| *name != "kind").map(|name| format!("unknown field {name:?}")));
        new = json!({});
    }
    let read = misfit.map_or_else(|| rules::typed(kind, &mut new), Err).map(|unknown| notices.extend(unknown));
    let strict = validation == FieldValidation::Strict && !notices.is_empty();
    let why = match read {
        Err(why) => Some(why),
        Ok(()) if strict => Some(rules::strict_text(&notices)),
        Ok(()) => None,
    };
    if let Some(why) = why {
        let fault = Fault::invalid("patch", patch.quoted(&as_patched), why);
        return Err(Refusal::Invalid {
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            faults: vec![fault],
        });
    }
    let faults = if kind.custom.is_some() { rules::identity_faults(kind, &new) } else { vec![] };
    if faults.iter().any(|fault| fault.path == "apiVersion") {
        // No schema knows the fields of a version that is not there.
        let fields = new.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let unknown = fields.filter(|name| !["apiVersion", "kind", "metadata"].contains(name));
        notices.extend(unknown.map(|name| format!("unknown field {name:?}")));
    }
    if validation == FieldValidation::Warn {
        notices.into_iter().for_each(|notice| call.notices.add(notice));
    }
    if !faults.is_empty() {
        let (group, said) = (kind.group.clone(), new.text("/kind").to_owned());
        return Err(Refusal::Invalid { group, kind: said, name: call.name().to_owned(), faults });
    }
    Ok(new)
}

/// A patch may carry a revision it insists on. Whether it does.
fn check_revision(call: &Call, old: &Entry, new: &Value) -> Result<bool, Refusal> {
    let wanted = new.resource_version();
    if wanted == old.value().resource_version() || wanted.is_empty() || wanted == "0" {
        return Ok(false);
    }
    wanted_revision(new)?;
    Err(Refusal::stale(call.kind(), call.name()))
}

/// Server-side apply: creates what is missing.
async fn apply(call: &Call, options: &WriteOptions) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let intent = rules::read_apply(call, options)?;
    for _ in 0..ATTEMPTS {
        let Some(old) = call.server.storage().get(&call.key()) else {
            if call.target.subresource.is_some() {
                return Err(Refusal::not_found(kind, call.name()));
            }
            return apply_new(call, &intent, options).await;
        };
        if let Some(response) = apply_to(call, &old, &intent, options).await? {
            return Ok(response);
        }
    }
    Err(Refusal::stale(kind, call.name()))
}

/// `None`: somebody else was faster.
async fn apply_to(
    call: &Call,
    old: &Arc<Entry>,
    intent: &Value,
    options: &WriteOptions,
) -> Result<Option<Response<Body>>, Refusal> {
    if wanted_revision(intent)?.is_some_and(|wanted| wanted != old.revision.0) {
        return Err(Refusal::stale(call.kind(), call.name()));
    }
    let live = versions::live(call.kind(), old);
    let mut new = rules::apply(call, Some(&live), intent, options)?;
    update::named_as_in_path(call, &mut new)?;
    let new = update::change(call, &live, new, call.target.subresource.as_deref(), None)?;
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
    let mut object = rules::apply(call, None, intent, options)?;
    update::named_as_in_path(call, &mut object)?;
    object.drop_meta("resourceVersion");
    create::finish(call, object, options).await
}
