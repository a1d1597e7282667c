//! Claims and volumes in, decisions out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::decide::{ForClaim, Observed, SELECTED_NODE, bound_claim, bound_volume, for_claim, for_volume};

fn claim(spec: &Value, annotations: &Value) -> Arc<PersistentVolumeClaim> {
    let mut claim = json!({
        "metadata": {"name": "data", "namespace": "shop", "uid": "claim-1", "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    claim["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(claim).unwrap())
}

/// An available one.
fn volume(name: &str, size: &str, spec: &Value) -> Arc<PersistentVolume> {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": size}, "hostPath": {"path": "/x"}},
        "status": {"phase": "Available"},
    });
    volume["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(volume).unwrap())
}

fn class(mode: &str) -> Arc<StorageClass> {
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/p", "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(class).unwrap())
}

fn decided(observed: &Observed) -> String {
    match for_claim(observed) {
        ForClaim::Bind(volume) => format!("bind {}", volume.metadata.name.clone().unwrap()),
        ForClaim::Wait(None) => "wait".to_owned(),
        ForClaim::Wait(Some(saying)) => format!("wait: {}", saying.reason),
        ForClaim::Ask(provisioner, saying) => format!("ask {provisioner}: {}", saying.reason),
        ForClaim::Lose(saying) => format!("lose: {}", saying.reason),
    }
}

fn observe(claim: &Arc<PersistentVolumeClaim>, volumes: &[Arc<PersistentVolume>]) -> Observed {
    Observed { claim: Arc::clone(claim), volumes: volumes.to_vec(), class: None, waiting_pod: None }
}

fn check(claim: &Arc<PersistentVolumeClaim>, volumes: &[Arc<PersistentVolume>], expected: &str) {
    assert_eq!(decided(&observe(claim, volumes)), expected);
}

#[test]
fn the_smallest_volume_that_suits_is_bound() {
    let wants = |spec: &Value| claim(spec, &json!({}));
    let plain = wants(&json!({}));
    let free = json!({});
    check(&plain, &[], "wait: FailedBinding");
    check(
        &plain,
        &[volume("big", "9Gi", &free), volume("small", "1024Mi", &free), volume("tiny", "1Mi", &free)],
        "bind small",
    );
    check(&plain, &[volume("block", "1Gi", &json!({"volumeMode": "Block"}))], "wait: FailedBinding");
    check(&plain, &[volume("classy", "1Gi", &json!({"storageClassName": "fast"}))], "wait: FailedBinding");
    check(&plain, &[volume("read", "1Gi", &json!({"accessModes": ["ReadOnlyMany"]}))], "wait: FailedBinding");
    check(
        &wants(&json!({"selector": {"matchLabels": {"a": "b"}}})),
        &[volume("v", "1Gi", &free)],
        "wait: FailedBinding",
    );
    let reserved = |name: &str| json!({"claimRef": {"namespace": "shop", "name": name}});
    check(&plain, &[volume("a", "1Gi", &free), volume("mine", "5Gi", &reserved("data"))], "bind mine");
    check(&plain, &[volume("theirs", "1Gi", &reserved("other"))], "wait: FailedBinding");
}

#[test]
fn a_claim_may_name_its_volume() {
    let named = claim(&json!({"volumeName": "v"}), &json!({}));
    check(&named, &[], "wait");
    check(&named, &[volume("v", "1Gi", &json!({}))], "bind v");
    check(&named, &[volume("v", "1Mi", &json!({}))], "wait: VolumeMismatch");
    let taken = json!({"claimRef": {"namespace": "shop", "name": "other", "uid": "claim-2"}});
    check(&named, &[volume("v", "1Gi", &taken)], "wait: FailedBinding");
    let bound = claim(&json!({"volumeName": "v"}), &json!({"pv.kubernetes.io/bind-completed": "yes"}));
    check(&bound, &[], "lose: ClaimLost");
    check(&bound, &[volume("v", "1Gi", &taken)], "lose: ClaimMisbound");
    check(&bound, &[volume("v", "1Gi", &json!({}))], "bind v");
}

#[test]
fn a_class_provisions_at_once_or_with_the_first_consumer() {
    let spec = json!({"storageClassName": "fast"});
    let fresh = claim(&spec, &json!({}));
    let check =
        |claim: &Arc<PersistentVolumeClaim>, class: Option<Arc<StorageClass>>, pod: Option<&str>, expected: &str| {
            let observed = Observed { class, waiting_pod: pod.map(str::to_owned), ..observe(claim, &[]) };
            assert_eq!(decided(&observed), expected);
        };
    check(&fresh, None, None, "wait: ProvisioningFailed");
    check(&fresh, Some(class("Immediate")), None, "ask example.com/p: ExternalProvisioning");
    check(&fresh, Some(class("WaitForFirstConsumer")), None, "wait: WaitForFirstConsumer");
    check(&fresh, Some(class("WaitForFirstConsumer")), Some("web-0"), "wait: WaitForPodScheduled");
    let placed = claim(&spec, &json!({SELECTED_NODE: "here"}));
    check(&placed, Some(class("WaitForFirstConsumer")), None, "ask example.com/p: ExternalProvisioning");
    let prepared = volume("v", "1Gi", &spec);
    let waiting =
        Observed { class: Some(class("WaitForFirstConsumer")), ..observe(&fresh, std::slice::from_ref(&prepared)) };
    assert_eq!(decided(&waiting), "wait: WaitForFirstConsumer", "the choice is the scheduler's");
    let chosen = Observed { class: Some(class("WaitForFirstConsumer")), ..observe(&placed, &[prepared]) };
    assert_eq!(decided(&chosen), "bind v");
}

#[test]
fn what_is_bound_stays_bound() {
    let (claim, volume) = (claim(&json!({}), &json!({})), volume("v", "2Gi", &json!({})));
    let volume = Arc::new(bound_volume(&volume, &claim));
    let claim = Arc::new(bound_claim(&claim, &volume));
    check(&claim, std::slice::from_ref(&volume), "bind v");
    assert_eq!(bound_volume(&volume, &claim), *volume);
    assert_eq!(bound_claim(&claim, &volume), *claim);
    assert_eq!(for_volume(&volume, Some(&claim)), *volume);
}

#[test]
fn a_volume_follows_its_claim() {
    let of = |claim: Option<&PersistentVolumeClaim>, spec: &Value| {
        let after = for_volume(&volume("v", "1Gi", spec), claim);
        let reference = after.spec.unwrap().claim_ref;
        let kept = reference.map_or("free", |it| if it.uid.is_some() { "for one" } else { "reserved" });
        format!("{}, {kept}", after.status.unwrap().phase.unwrap())
    };
    let bound = json!({"claimRef": {"namespace": "shop", "name": "data", "uid": "claim-1"}});
    assert_eq!(of(None, &json!({})), "Available, free");
    assert_eq!(of(None, &json!({"claimRef": {"namespace": "shop", "name": "data"}})), "Available, reserved");
    assert_eq!(of(None, &bound), "Released, for one");
    let mine = claim(&json!({"volumeName": "v"}), &json!({}));
    assert_eq!(of(Some(&mine), &bound), "Bound, for one");
    let elsewhere = claim(&json!({"volumeName": "w"}), &json!({}));
    assert_eq!(of(Some(&elsewhere), &bound), "Available, reserved");
    let successor = json!({"claimRef": {"namespace": "shop", "name": "data", "uid": "claim-0"}});
    assert_eq!(of(Some(&mine), &successor), "Released, for one", "a new claim of the old name");
    let deleting = json!({"claimRef": bound["claimRef"], "persistentVolumeReclaimPolicy": "Delete"});
    assert_eq!(of(None, &deleting), "Failed, for one", "nobody is there who could delete it");
}
