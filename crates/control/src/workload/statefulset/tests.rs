//! Decisions as lines of text: pods in, acts out.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::claims;
use super::decide::{Decision, Observed, decide};
use super::identity::{self, Revision, ordinal};
use super::status;

const NOW: &str = "2026-01-01T01:00:00Z";

fn set(spec: &Value) -> Arc<StatefulSet> {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "set", "generation": 3},
        "spec": {"replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}},
    });
    set["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(set).unwrap())
}

fn revision(set: &StatefulSet, name: &str) -> Revision {
    Revision { name: name.to_owned(), template: set.spec.clone().unwrap().template }
}

/// `0:old:ready`: the place, the revision, and a state out of ready, fresh (for a minute), unready, pending, failed, ending.
fn pod(set: &StatefulSet, word: &str) -> Arc<Pod> {
    let [place, revision_name, state] = word.split(':').collect::<Vec<_>>()[..] else { panic!("a pod: {word}") };
    let mut pod = identity::pod(set, &revision(set, revision_name), place.parse().unwrap());
    pod.metadata.uid = Some(format!("pod-{place}"));
    let (phase, ready, since) = match state {
        "ready" | "ending" => ("Running", "True", "2026-01-01T00:00:00Z"),
        "fresh" => ("Running", "True", "2026-01-01T00:59:00Z"),
        "unready" => ("Running", "False", NOW),
        "pending" => ("Pending", "False", NOW),
        "failed" => ("Failed", "False", NOW),
        other => panic!("a state: {other}"),
    };
    let status = json!({"phase": phase,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]});
    pod.status = Some(serde_json::from_value(status).unwrap());
    if state == "ending" {
        pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).unwrap());
    }
    Arc::new(pod)
}

fn observe(set: &Arc<StatefulSet>, pods: &str, claims: &[PersistentVolumeClaim]) -> Observed {
    let named = |claim: &PersistentVolumeClaim| (claim.metadata.name.clone().unwrap(), Arc::new(claim.clone()));
    Observed {
        set: Arc::clone(set),
        pods: pods.split_whitespace().map(|word| pod(set, word)).collect(),
        claims: claims.iter().map(named).collect::<BTreeMap<_, _>>(),
        current: revision(set, "old"),
        update: revision(set, "new"),
        collisions: 0,
        now: NOW.parse::<Timestamp>().unwrap(),
    }
}

fn decision(set: &Arc<StatefulSet>, pods: &str, claims: &[PersistentVolumeClaim]) -> Decision {
    decide(&observe(set, pods, claims))
}

fn check(set: &Arc<StatefulSet>, pods: &str, expected: &str) {
    assert_eq!(decision(set, pods, &[]).to_string(), expected, "{pods}");
}

#[test]
fn places_are_filled_one_after_the_other() {
    let set = set(&json!({}));
    check(&set, "", "create web-0 of new; waiting: web-0 to be running and ready");
    check(&set, "0:new:pending", "waiting: web-0 to be running and ready");
    check(&set, "0:new:ready", "create web-1 of new; waiting: web-1 to be running and ready");
    check(&set, "0:new:ready 2:new:ready", "create web-1 of new; waiting: web-1 to be running and ready");
    check(&set, "0:new:unready 1:new:ready", "waiting: web-0 to be running and ready");
    check(&set, "0:new:ready 1:new:ending 2:new:ready", "waiting: web-1 to end");
    check(&set, "0:new:ready 1:new:failed 2:new:ready", "delete web-1; waiting: web-1 to be replaced");
    check(&set, "0:new:ready 1:new:ready 2:new:ready", "nothing to do");
}

#[test]
fn parallel_places_do_not_wait_for_each_other() {
    let set = set(&json!({"podManagementPolicy": "Parallel"}));
    check(&set, "1:new:unready", "create web-0 of new; create web-2 of new; waiting: a new pod to be available");
    check(
        &set,
        "0:new:unready 1:new:ready 2:new:ready 3:new:ready 4:new:unready",
        "delete web-4; delete web-3; waiting: web-0 to be available",
    );
    check(&set, "0:old:unready 1:old:ready 2:new:ready", "delete web-1; waiting: web-1 to end");
}

#[test]
fn the_highest_goes_first_and_a_pod_in_trouble_holds_the_others() {
    let set = set(&json!({"replicas": 1}));
    check(&set, "0:new:ready 1:new:ready 2:new:ready", "delete web-2; waiting: web-2 to end");
    check(&set, "0:new:ready 1:new:ready 2:new:ending", "waiting: web-2 to end");
    check(&set, "0:new:unready 1:new:ready", "waiting: web-0 to be running and ready");
    check(&set, "0:new:ready 1:new:unready 2:new:unready", "waiting: web-1 to be available");
    check(&set, "0:new:ready 1:new:unready 2:new:ready", "delete web-2; waiting: web-2 to end");
    check(&set, "0:new:ready 1:new:unready", "delete web-1; waiting: web-1 to end");
}

#[test]
fn an_update_goes_down_from_the_highest_place() {
    let rolling = set(&json!({}));
    check(&rolling, "0:old:ready 1:old:ready 2:old:ready", "delete web-2; waiting: web-2 to end");
    check(&rolling, "0:old:ready 1:old:ready", "create web-2 of new; waiting: web-2 to be running and ready");
    check(&rolling, "0:old:ready 1:old:ready 2:new:ready", "delete web-1; waiting: web-1 to end");
    check(&rolling, "0:old:ready 1:old:ready 2:new:unready", "waiting: web-2 to be running and ready");
    let partitioned = set(&json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}));
    check(&partitioned, "0:old:ready 1:old:ready 2:new:ready", "nothing to do");
    check(&partitioned, "1:old:ready 2:new:ready", "create web-0 of old; waiting: web-0 to be running and ready");
    let by_hand = set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    check(&by_hand, "0:old:ready 1:old:ready 2:old:ready", "nothing to do");
    check(&by_hand, "0:old:ready 2:old:ready", "create web-1 of new; waiting: web-1 to be running and ready");
}

#[test]
fn places_may_start_anywhere() {
    let set = set(&json!({"replicas": 2, "ordinals": {"start": 5},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}));
    check(&set, "", "create web-5 of old; waiting: web-5 to be running and ready");
    check(&set, "5:old:ready", "create web-6 of new; waiting: web-6 to be running and ready");
    check(&set, "0:old:ready 5:old:ready 6:new:ready", "delete web-0; waiting: web-0 to end");
}

#[test]
fn a_pod_counts_once_it_was_ready_long_enough() {
    let set = set(&json!({"minReadySeconds": 90}));
    check(&set, "0:new:fresh", "waiting: web-0 to be available");
    let decision = decision(&set, "0:new:ready 1:new:fresh", &[]);
    assert_eq!(decision.wake.map(|wake| wake.as_secs()), Some(30));
    assert_eq!((decision.status.ready_replicas, decision.status.available_replicas), (Some(2), Some(1)));
}

fn counts(set: &Arc<StatefulSet>, pods: &str) -> String {
    let status = status::next(&observe(set, pods, &[]));
    let count = |count: Option<i32>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    format!(
        "{} ready {} available {} current {} updated {} of {}",
        status.replicas,
        count(status.ready_replicas),
        count(status.available_replicas),
        count(status.current_replicas),
        count(status.updated_replicas),
        status.current_revision.unwrap(),
    )
}

#[test]
fn the_status_counts_both_revisions_until_the_update_is_complete() {
    let rolling = set(&json!({}));
    assert_eq!(counts(&rolling, ""), "0 ready - available 0 current - updated - of old");
    assert_eq!(counts(&rolling, "0:old:ready 1:old:ending"), "2 ready 2 available 2 current 1 updated - of old");
    let all_new = "0:new:ready 1:new:ready 2:new:ready";
    assert_eq!(
        counts(&rolling, "0:old:ready 1:old:ready 2:new:ready"),
        "3 ready 3 available 3 current 2 updated 1 of old"
    );
    assert_eq!(counts(&rolling, all_new), "3 ready 3 available 3 current 3 updated 3 of new");
    let by_hand = set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    assert_eq!(counts(&by_hand, all_new), "3 ready 3 available 3 current - updated 3 of old");
}

fn with_claims(policy: &Value) -> Arc<StatefulSet> {
    set(&json!({"replicas": 1, "persistentVolumeClaimRetentionPolicy": policy, "volumeClaimTemplates": [
        {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}))
}

#[test]
fn claims_come_before_their_pod_and_outlive_it() {
    let keeping = with_claims(&json!({}));
    check(&keeping, "", "create data-web-0 and web-0 of new; waiting: web-0 to be running and ready");
    let claim = claims::of_place(&keeping, 0).remove(0);
    assert_eq!(claim.metadata.labels, Some([("app".to_owned(), "web".to_owned())].into()));
    let again = decision(&keeping, "", std::slice::from_ref(&claim)).to_string();
    assert_eq!(again, "create web-0 of new; waiting: web-0 to be running and ready");
    let pending = decision(&keeping, "0:new:pending", &[]).to_string();
    assert_eq!(pending, "restore data-web-0 and web-0 goes on; waiting: web-0 to be running and ready");
    let mut going = claim;
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).unwrap());
    let refused = decision(&keeping, "", &[going]).to_string();
    assert_eq!(refused, "cannot create web-0: pvc data-web-0 is being deleted; waiting: the claims of web-0");
}

#[test]
fn the_retention_policy_says_whose_end_is_a_claims_end() {
    let pods = "0:new:ready 1:new:ready";
    let plain = with_claims(&json!({}));
    let claims: Vec<_> = [0, 1].iter().map(|place| claims::of_place(&plain, *place).remove(0)).collect();
    let check = |policy: Value, claims: &[PersistentVolumeClaim], expected: &str| {
        let set = with_claims(&policy);
        assert_eq!(decision(&set, pods, claims).to_string(), expected);
    };
    let goes = "delete web-1; waiting: web-1 to end";
    check(json!({"whenDeleted": "Retain", "whenScaled": "Retain"}), &claims, goes);
    check(
        json!({"whenDeleted": "Delete", "whenScaled": "Retain"}),
        &claims,
        &format!("data-web-0 goes with [StatefulSet web]; data-web-1 goes with [StatefulSet web]; {goes}"),
    );
    let with_pod = format!("data-web-1 goes with [Pod web-1]; {goes}");
    check(json!({"whenDeleted": "Retain", "whenScaled": "Delete"}), &claims, &with_pod);
    let owned: Vec<_> = {
        let set = with_claims(&json!({"whenDeleted": "Delete", "whenScaled": "Retain"}));
        [0, 1].iter().map(|place| claims::of_place(&set, *place).remove(0)).collect()
    };
    check(json!({"whenDeleted": "Delete", "whenScaled": "Delete"}), &owned, &with_pod);
    let freed = format!("data-web-0 goes with []; data-web-1 goes with []; {goes}");
    check(json!({"whenDeleted": "Retain", "whenScaled": "Retain"}), &owned, &freed);
}

#[test]
fn a_place_waits_for_the_claims_of_its_former_pod() {
    let set = with_claims(&json!({"whenScaled": "Delete"}));
    let mut claim = claims::of_place(&set, 0).remove(0);
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "former", "controller": true}]);
    claim.metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
    assert_eq!(decision(&set, "", &[claim]).to_string(), "waiting: the claims of the former web-0 to go");
}

#[test]
fn only_names_that_the_set_would_give_are_of_it() {
    let set = set(&json!({}));
    let place = |name: &str| {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        ordinal(&set, &pod)
    };
    assert_eq!(place("web-10"), Some(10));
    for name in ["web", "web-", "web-x", "web-01", "web--1", "shop-1", "web-1-1", "web-99999999999"] {
        assert_eq!(place(name), None, "{name}");
    }
}
