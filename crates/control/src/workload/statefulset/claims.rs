//! The claims of a place: made with its first pod, and what becomes of them by the retention policy.

use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::super::owner;
use super::identity::{claim_name, claim_templates, ordinal, ordinals};

/// Whose end is also the end of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    GoesWithSet,
    GoesWithPod,
}

/// The names of a place's claims.
pub(super) fn names(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = String> {
    claim_templates(set).iter().map(move |template| claim_name(set, template, ordinal))
}

/// The claims of a place, as they are first made.
pub(super) fn of_place(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let made = claim_templates(set).iter().map(|template| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(selector.clone());
        let owners = (fate(set, ordinal) == Fate::GoesWithSet).then(|| vec![owner::controlled_by(set)]);
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.namespace(),
                labels: (!labels.is_empty()).then_some(labels),
                annotations: template.metadata.annotations.clone(),
                finalizers: template.metadata.finalizers.clone(),
                owner_references: owners,
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    });
    made.collect()
}

/// Whether claims go when their place is scaled away, and when the set is deleted.
fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone());
    let policy = policy.unwrap_or_default();
    let deletes = |word: Option<String>| word.as_deref() == Some("Delete");
    (deletes(policy.when_scaled), deletes(policy.when_deleted))
}

fn fate(set: &StatefulSet, ordinal: i32) -> Fate {
    let (when_scaled, when_deleted) = deletes(set);
    let is_scaled_away = !ordinals(set).contains(&ordinal);
    match (is_scaled_away, when_scaled, when_deleted) {
        (true, true, _) => Fate::GoesWithPod,
        (true, false, true) | (false, _, true) => Fate::GoesWithSet,
        _ => Fate::Stays,
    }
}

/// The claim with the owners that the policy asks for; none when it has them, or when somebody else controls it.
pub(super) fn settled(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> Option<PersistentVolumeClaim> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_ours = |it: &OwnerReference| {
        (it.kind == StatefulSet::KIND && it.name == set.name_any())
            || (it.kind == Pod::KIND && it.name == pod.name_any())
    };
    let mut after: Vec<_> = before.iter().filter(|it| !is_ours(it)).cloned().collect();
    if !after.iter().any(|it| it.controller == Some(true)) {
        match fate(set, ordinal(set, pod)?) {
            Fate::Stays => {}
            Fate::GoesWithSet => after.push(owner::controlled_by(set)),
            Fate::GoesWithPod => after.push(owner::controlled_by(pod)),
        }
    }
    let mut settled = claim.clone();
    settled.metadata.owner_references = (!after.is_empty()).then_some(after.clone());
    (before != after).then_some(settled)
}

/// A claim that goes with a former pod of this name: the next pod waits until it is gone.
pub(super) fn is_of_former_pod(set: &StatefulSet, pod_name: &str, claim: &PersistentVolumeClaim) -> bool {
    let (when_scaled, _) = deletes(set);
    let mut owners = claim.metadata.owner_references.iter().flatten();
    when_scaled && owners.any(|it| it.kind == Pod::KIND && it.name == pod_name)
}
