//! Releases as a user drives them: apply, watch the Rollout, command.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_model::rollout::{CheckState, Phase, RolloutStatus};

use crate::town::Town;

fn canary() -> Value {
    json!({
        "steps": [{"traffic": "20%", "hold": "1s", "checks": ["errors"]}, {"traffic": "50%", "hold": "200ms"}],
        "checks": [{"name": "errors", "every": "200ms",
                    "metric": {"name": "error-rate", "versus": "stable", "max": "1%", "minRequests": 50}}],
    })
}

fn hash(status: &RolloutStatus) -> String {
    status.stable.as_ref().expect("a stable version").hash.clone()
}

fn exposed(status: &RolloutStatus) -> bool {
    status.candidate.is_some() && status.exposed_at.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_version_is_released_step_by_step() {
    let town = Town::with_shop(canary()).await;
    let first = hash(&town.status().await);
    town.deploy("v2").await;
    let held = town.until(|status| exposed(status) && status.step == Some(1)).await;
    assert_eq!((held.weight.as_str(), held.progress.as_str()), ("20%", "1/3 20%"));
    assert_eq!(held.sizes.get(&first), Some(&2), "{held:#?}");
    let done = town.until(|status| status.phase == Some(Phase::Idle) && hash(status) != first).await;
    assert_eq!(done.previous.as_ref().map(|previous| previous.hash.as_str()), Some(first.as_str()));
    let released = done.conditions.iter().find(|condition| condition.kind == "Released").expect("a condition");
    assert_eq!(released.status, "True", "{}", released.message);
    town.until(|status| status.sizes.get(&first) == Some(&0)).await;
    town.until_event("Released").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hidden_fault_is_caught_and_the_version_not_tried_again() {
    let town = Town::with_shop(canary()).await;
    let first = hash(&town.status().await);
    town.deploy("v2").await;
    let candidate = town.until(|status| status.candidate.is_some()).await.candidate.expect("just seen").hash;
    town.gateway.break_version(&candidate, 8);
    let rejected = town.until(|status| status.phase == Some(Phase::Rejected)).await;
    assert_eq!(hash(&rejected), first);
    let reason = rejected.rejected.expect("a rejection").reason;
    assert!(reason.starts_with("check `errors`: error-rate 1"), "{reason}");
    assert_eq!(rejected.checks[0].state, CheckState::Failed);
    let met = town.gateway.counted(&candidate);
    assert!(met.errors_5xx <= 40, "{} requests met the fault", met.errors_5xx);
    town.until(|status| status.sizes.get(&candidate) == Some(&0)).await;
    town.deploy("v1").await;
    town.until(|status| status.phase == Some(Phase::Idle)).await;
    town.deploy("v2").await;
    town.until(|status| status.phase == Some(Phase::Rejected) && status.candidate.is_none()).await;
    town.until_event("Rejected").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_moves_on_before_the_gateway_has_acknowledged() {
    let town = Town::with_shop(canary()).await;
    town.deploy("v2").await;
    // Deaf from the moment on in which the split is written but cannot be acknowledged any more.
    town.until(|status| status.candidate.is_some()).await;
    town.gateway.deaf.store(true, Ordering::Relaxed);
    let waiting =
        |status: &RolloutStatus| status.message.contains("every gateway") || status.message.contains("pods of");
    let stuck = town.until(|status| waiting(status) && !exposed(status)).await;
    // That nothing happens can only be shown by waiting; a hold would be over by now.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(town.status().await.step, stuck.step, "a step was left without an acknowledgement");
    assert_eq!(town.status().await.exposed_at, None);
    town.gateway.deaf.store(false, Ordering::Relaxed);
    town.until(exposed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_carried_out_and_answered() {
    let town = Town::with_shop(
        json!({"strategy": "BlueGreen", "blueGreen": {"before": "approval"}, "keepOld": {"for": "1h"}}),
    )
    .await;
    let first = hash(&town.status().await);
    town.command("too-early", "Approve").await;
    assert_eq!(town.answer("too-early").await, "Refused: nothing is being released");
    town.deploy("v2").await;
    town.until(|status| status.message.contains("approval")).await;
    town.command("go", "Approve").await;
    assert_eq!(town.answer("go").await, "Done: the hold of step 1 is over");
    let second = hash(&town.until(|status| status.phase == Some(Phase::Promoted)).await);
    assert_eq!((town.pods(&first).await, town.pods(&second).await), (2, 2), "the old version is kept");
    town.command("back", "Undo").await;
    assert!(town.answer("back").await.starts_with("Done: going back to revision 1"));
    let back = town.until(|status| status.phase == Some(Phase::Rejected)).await;
    assert_eq!(hash(&back), first);
    town.until(|status| status.commands.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_survives_a_restart() {
    let mut town = Town::with_shop(json!({"steps": [{"traffic": "50%", "hold": "2s"}]})).await;
    let first = hash(&town.status().await);
    town.deploy("v2").await;
    let before = town.until(exposed).await;
    town.stop_release().await;
    town.start_release();
    let done = town.until(|status| status.step == Some(2) || hash(status) != first).await;
    let since = before.exposed_at.expect("it is exposed");
    let left_at = done.step_started_at.or(done.applied_at).expect("a moment");
    let held = left_at.duration_since(since);
    assert!(held.as_secs() >= 2 && held.as_secs() < 20, "held for {held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_cannot_be_followed_says_why_and_leaves_traffic_alone() {
    let town = Town::with_shop(canary()).await;
    let before = town.status().await;
    town.release_shop(json!({"steps": [{"traffic": "50%", "checks": ["speed"]}, {"traffic": "10%"}], "checks": []}))
        .await;
    let invalid = |status: &RolloutStatus| {
        status.conditions.iter().any(|condition| condition.kind == "Valid" && condition.status == "False")
    };
    let refused = town.until(invalid).await;
    insta::assert_snapshot!(refused.message, @"spec.steps[0].checks[0]: there is no check named `speed` in spec.checks; spec.steps[1].traffic: `10%` is less than the 50% of the step before; list the steps in rising order");
    assert_eq!((&refused.exposure, &refused.sizes), (&before.exposure, &before.sizes));
    town.until_event("SpecInvalid").await;
    town.release_shop(canary()).await;
    town.until(|status| !invalid(status)).await;
}

/// Nothing listens where the pretended pods are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smoke_test_keeps_a_broken_version_from_any_traffic() {
    let smoke = json!({"name": "smoke", "at": "before", "every": "100ms", "http": {"path": "/healthz"}, "failures": 2});
    let town = Town::with_shop(json!({"strategy": "BlueGreen", "checks": [smoke]})).await;
    let first = hash(&town.status().await);
    town.deploy("v2").await;
    let rejected = town.until(|status| status.phase == Some(Phase::Rejected)).await;
    let reason = rejected.rejected.expect("a rejection").reason;
    assert!(reason.starts_with("check `smoke`: GET /healthz: pod shop-"), "{reason}");
    let second = rejected.sizes.keys().find(|hash| **hash != first).expect("a second version");
    assert_eq!(town.gateway.counted(second).requests, 0);
}
