//! What people are told: conditions, events, and the answers to commands.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use sluice_model::condition::Condition;
use sluice_model::rollout::{GROUP, Phase, RolloutStatus, VERSION};
use sluice_release::{Event, Outcome};

use super::MANAGER;
use super::world::{World, resource};
use crate::Error;
use crate::events::Severity;

/// The spec can be followed.
const VALID: &str = "Valid";
/// A release is under way, forwards or back.
const PROGRESSING: &str = "Progressing";
/// The version that the workload's template names serves everything.
const RELEASED: &str = "Released";

/// Brings the conditions to what the status says. A condition that stays what it was keeps its time.
///
/// `current` is the version that the template names: a release is over when that one is the stable one.
pub(crate) fn conditions(
    status: &mut RolloutStatus,
    generation: Option<i64>,
    current: Option<&str>,
    invalid: Option<&str>,
    now: Timestamp,
) {
    let phase = status.phase;
    let moving = status.candidate.is_some() && invalid.is_none();
    let reason = phase.map_or_else(|| "Unknown".to_owned(), |phase| format!("{phase:?}"));
    let valid = match invalid {
        None => ("True", "SpecRead".to_owned(), "the spec can be followed".to_owned()),
        Some(why) => ("False", "SpecInvalid".to_owned(), why.to_owned()),
    };
    let progressing = (truth(moving && phase != Some(Phase::Paused)), reason.clone(), status.message.clone());
    let serves = current.is_some() && current == status.stable.as_ref().map(|stable| stable.hash.as_str());
    let released = serves && !moving && matches!(phase, Some(Phase::Idle | Phase::Promoted));
    let released = (truth(released), reason, status.message.clone());
    for (kind, (value, reason, message)) in [(VALID, valid), (PROGRESSING, progressing), (RELEASED, released)] {
        let known = status.conditions.iter().find(|condition| condition.kind == kind && condition.status == value);
        let since = known.map_or(now, |known| known.last_transition_time);
        let condition = Condition {
            kind: kind.to_owned(),
            status: value.to_owned(),
            observed_generation: generation,
            last_transition_time: since,
            reason,
            message,
        };
        match status.conditions.iter_mut().find(|condition| condition.kind == kind) {
            Some(place) => *place = condition,
            None => status.conditions.push(condition),
        }
    }
}

fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

pub(crate) fn events(world: &World, rollout: &DynamicObject, events: Vec<Event>) {
    for Event { warning, reason, note } in events {
        let severity = if warning { Severity::Warning } else { Severity::Normal };
        world.events.note(reference(rollout), severity, reason, note);
    }
}

fn reference(rollout: &DynamicObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("Rollout".to_owned()),
        namespace: rollout.namespace(),
        name: Some(rollout.name_any()),
        uid: rollout.uid(),
        resource_version: rollout.resource_version(),
        field_path: None,
    }
}

/// Writes the answers into the commands. The Rollout remembers what it carried out, so this may be repeated.
pub(crate) async fn answers(world: &World, namespace: &str, outcomes: Vec<Outcome>) -> Result<(), Error> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), namespace, &resource("RolloutCommand", "rolloutcommands"));
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    for Outcome { uid: _, name, done, message } in outcomes {
        let phase = if done { "Done" } else { "Refused" };
        let answer = Patch::Merge(json!({"status": {"phase": phase, "message": message}}));
        match api.patch_status(&name, &parameters, &answer).await {
            // A command that was deleted needs no answer.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}
