//! Whether a volume is what a claim asks for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kube::ResourceExt;
use sluice_model::quantity::Quantity;

use crate::informer::is_deleted;
use crate::workload::claim;

const STORAGE: &str = "storage";
const CLASS_BEFORE: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim; empty for none.
pub(in crate::workload) fn class_of(claim: &PersistentVolumeClaim) -> String {
    let before = claim.annotations().get(CLASS_BEFORE).cloned();
    before.or_else(|| claim.spec.as_ref()?.storage_class_name.clone()).unwrap_or_default()
}

fn class_of_volume(volume: &PersistentVolume) -> String {
    let before = volume.annotations().get(CLASS_BEFORE).cloned();
    before.or_else(|| volume.spec.as_ref()?.storage_class_name.clone()).unwrap_or_default()
}

/// Whether the volume is kept for this claim: by name, and by uid once it is bound.
pub(super) fn is_for(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    let same_uid = reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.uid().as_deref());
    same_uid && reference.name.as_deref() == Some(&claim.name_any()) && reference.namespace == claim.namespace()
}

/// The volume that was made for the claim, else the smallest that suits it.
/// With `only_reserved` the choice among free ones is not made yet.
pub(super) fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    only_reserved: bool,
) -> Option<Arc<PersistentVolume>> {
    let big_enough = volumes.iter().filter(|volume| {
        !is_deleted(&***volume)
            && mode(volume.spec.as_ref().and_then(|it| it.volume_mode.as_ref())) == claim_mode(claim)
            && size(volume) >= requested(claim)
    });
    let reference = |volume: &PersistentVolume| volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
    let reserved = big_enough.clone().find(|volume| reference(volume).is_some_and(|it| is_for(&it, claim)));
    if reserved.is_some() || only_reserved {
        return reserved.cloned();
    }
    let free = big_enough.filter(|volume| reference(volume).is_none() && is_available(volume) && suits(volume, claim));
    free.min_by_key(|volume| (size(volume), volume.name_any())).cloned()
}

/// Whether a volume that the claim names is one that it may have.
pub(super) fn is_acceptable(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    size(volume) >= requested(claim)
        && class_of_volume(volume) == class_of(claim)
        && mode(volume.spec.as_ref().and_then(|it| it.volume_mode.as_ref())) == claim_mode(claim)
}

fn is_available(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available")
}

fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = &claim.spec else { return false };
    let offered = volume.spec.as_ref().and_then(|spec| spec.access_modes.clone()).unwrap_or_default();
    let is_selected = spec
        .selector
        .as_ref()
        .is_none_or(|selector| claim::matches(&claim::selector(selector), volume.metadata.labels.as_ref()));
    is_selected
        && class_of_volume(volume) == class_of(claim)
        && spec.access_modes.iter().flatten().all(|mode| offered.contains(mode))
}

fn mode(mode: Option<&String>) -> String {
    mode.cloned().unwrap_or_else(|| "Filesystem".to_owned())
}

fn claim_mode(claim: &PersistentVolumeClaim) -> String {
    mode(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

fn size(volume: &PersistentVolume) -> Quantity {
    parsed(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get(STORAGE)))
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    parsed(resources.and_then(|resources| resources.requests.as_ref()?.get(STORAGE)))
}

fn parsed(written: Option<&Written>) -> Quantity {
    written.and_then(|written| written.0.parse().ok()).unwrap_or(Quantity::whole(0))
}
