//! Which volume a claim gets, and what a volume is to the claim that it names.

use std::sync::Arc;

use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

use super::matching::{class_of, find, is_acceptable, is_for};
use crate::events::Severity;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Whoever provisioned a volume also deletes it.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Asks the provisioner for a volume.
pub(super) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BEFORE: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Where the pod goes that a claim waited for.
pub(in crate::workload) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Of a class that has no provisioner.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

#[derive(Debug)]
pub(super) struct Observed {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    pub(super) volumes: Vec<Arc<PersistentVolume>>,
    /// The class that the claim names, when there is one of this name.
    pub(super) class: Option<Arc<StorageClass>>,
    /// A pod with this claim that has no node yet.
    pub(super) waiting_pod: Option<String>,
}

/// What users are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saying {
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ForClaim {
    /// Also where both are bound already.
    Bind(Arc<PersistentVolume>),
    Wait(Option<Saying>),
    /// Waits for this provisioner.
    Ask(String, Saying),
    Lose(Saying),
}

fn say(severity: Severity, reason: &'static str, message: impl Into<String>) -> Saying {
    Saying { severity, reason, message: message.into() }
}

/// A claim of such a class waits for the pod that uses it first.
pub(in crate::workload) fn waits_for_consumer(class: Option<&StorageClass>) -> bool {
    class.and_then(|class| class.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer")
}

pub(super) fn for_claim(observed: &Observed) -> ForClaim {
    let claim = &*observed.claim;
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
    let volume = observed.volumes.iter().find(|volume| volume.name_any() == named).cloned();
    let is_bound = claim.annotations().contains_key(BIND_COMPLETED);
    match volume {
        None if is_bound => {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            ForClaim::Lose(say(Severity::Warning, "ClaimLost", message))
        }
        None if !named.is_empty() => ForClaim::Wait(None),
        None => unbound(observed),
        Some(volume) => match volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
            Some(reference) if is_for(reference, claim) => ForClaim::Bind(volume),
            None if is_bound || is_acceptable(&volume, claim) => ForClaim::Bind(volume),
            None => {
                let message = format!("Cannot bind to requested volume \"{named}\": it is not what the claim asks for");
                ForClaim::Wait(Some(say(Severity::Warning, "VolumeMismatch", message)))
            }
            Some(_) if is_bound => {
                let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                ForClaim::Lose(say(Severity::Warning, "ClaimMisbound", message))
            }
            Some(_) => {
                let message = format!("volume \"{named}\" already bound to a different claim.");
                ForClaim::Wait(Some(say(Severity::Warning, "FailedBinding", message)))
            }
        },
    }
}

fn unbound(observed: &Observed) -> ForClaim {
    let claim = &*observed.claim;
    let class = observed.class.as_deref();
    let waits = waits_for_consumer(class) && !claim.annotations().contains_key(SELECTED_NODE);
    if let Some(volume) = find(claim, &observed.volumes, waits) {
        return ForClaim::Bind(volume);
    }
    if waits {
        return ForClaim::Wait(Some(match &observed.waiting_pod {
            Some(pod) => say(Severity::Normal, "WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            None => {
                let message = "waiting for first consumer to be created before binding";
                say(Severity::Normal, "WaitForFirstConsumer", message)
            }
        }));
    }
    let name = class_of(claim);
    match class {
        None if name.is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            ForClaim::Wait(Some(say(Severity::Normal, "FailedBinding", message)))
        }
        None => {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            ForClaim::Wait(Some(say(Severity::Warning, "ProvisioningFailed", message)))
        }
        Some(class) if class.provisioner == NO_PROVISIONER => {
            let message = "storageclass has no provisioner and no persistent volume fits this claim";
            ForClaim::Wait(Some(say(Severity::Normal, "FailedBinding", message)))
        }
        Some(class) => {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
                 registered.",
                class.provisioner
            );
            ForClaim::Ask(class.provisioner.clone(), say(Severity::Normal, "ExternalProvisioning", message))
        }
    }
}

/// The volume as it is once it is bound to the claim.
pub(super) fn bound_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut bound = volume.clone();
    let spec = bound.spec.get_or_insert_default();
    let was_reserved = spec.claim_ref.is_some();
    if spec.claim_ref.as_ref().and_then(|reference| reference.uid.clone()) != claim.uid() {
        spec.claim_ref = Some(ObjectReference {
            api_version: Some(PersistentVolumeClaim::API_VERSION.to_owned()),
            kind: Some(PersistentVolumeClaim::KIND.to_owned()),
            namespace: claim.namespace(),
            name: Some(claim.name_any()),
            uid: claim.uid(),
            resource_version: claim.resource_version(),
            field_path: None,
        });
    }
    if !was_reserved {
        bound.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    bound.status =
        Some(PersistentVolumeStatus { phase: Some("Bound".to_owned()), ..volume.status.clone().unwrap_or_default() });
    bound
}

/// The claim as it is once it is bound to the volume.
pub(super) fn bound_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> PersistentVolumeClaim {
    let mut bound = claim.clone();
    let offered = volume.spec.clone().unwrap_or_default();
    let spec = bound.spec.get_or_insert_default();
    let annotations = bound.metadata.annotations.get_or_insert_default();
    if spec.volume_name.as_deref().unwrap_or_default().is_empty() {
        spec.volume_name = Some(volume.name_any());
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
    bound.status = Some(PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: offered.access_modes,
        capacity: offered.capacity,
        ..claim.status.clone().unwrap_or_default()
    });
    bound
}

/// The claim as it is while it waits.
pub(super) fn pending_claim(claim: &PersistentVolumeClaim, provisioner: Option<&str>) -> PersistentVolumeClaim {
    with_phase(claim, "Pending", provisioner)
}

pub(super) fn lost_claim(claim: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    with_phase(claim, "Lost", None)
}

fn with_phase(claim: &PersistentVolumeClaim, phase: &str, provisioner: Option<&str>) -> PersistentVolumeClaim {
    let mut waiting = claim.clone();
    if let Some(provisioner) = provisioner {
        let annotations = waiting.metadata.annotations.get_or_insert_default();
        for name in [PROVISIONER, PROVISIONER_BEFORE] {
            annotations.insert(name.to_owned(), provisioner.to_owned());
        }
    }
    let before = claim.status.clone().unwrap_or_default();
    waiting.status = Some(PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        access_modes: None,
        capacity: None,
        ..before
    });
    waiting
}

/// The volume as it should be, given the claim of the name that it is for.
pub(super) fn for_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> PersistentVolume {
    let mut next = volume.clone();
    let phase = phase_for(volume, claim);
    if phase.is_none() {
        // The claim chose another.
        let annotations = next.metadata.annotations.get_or_insert_default();
        let spec = next.spec.get_or_insert_default();
        if annotations.remove(BOUND_BY_CONTROLLER).is_some() {
            spec.claim_ref = None;
        } else if let Some(reference) = &mut spec.claim_ref {
            (reference.uid, reference.resource_version) = (None, None);
        }
    }
    let status = next.status.get_or_insert_default();
    let phase = phase.unwrap_or("Available");
    if phase == "Failed" {
        status.message = Some("no deletable volume plugin matched".to_owned());
    }
    status.phase = Some(phase.to_owned());
    next
}

/// None when the volume is to be free again.
fn phase_for(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Option<&'static str> {
    let spec = volume.spec.as_ref();
    let uid = spec.and_then(|spec| spec.claim_ref.as_ref()?.uid.clone()).unwrap_or_default();
    if uid.is_empty() {
        return Some("Available");
    }
    let deletes = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    let is_provisioned = volume.annotations().contains_key(PROVISIONED_BY);
    let released = if deletes && !is_provisioned { "Failed" } else { "Released" };
    let Some(claim) = claim.filter(|claim| claim.uid().as_deref() == Some(&uid)) else { return Some(released) };
    let chosen = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    match chosen {
        "" => Some("Available"),
        chosen if chosen == volume.name_any() => Some("Bound"),
        _ if deletes && is_provisioned => Some("Released"),
        _ => None,
    }
}
