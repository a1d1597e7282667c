//! The names, labels and claims that a place in a StatefulSet gives to whichever pod holds it.

use std::ops::Range;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::ResourceExt;

use super::super::history::POD_REVISION;
use crate::template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A state of the set's template under the name of its ControllerRevision.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) name: String,
    pub(super) template: PodTemplateSpec,
}

/// The places of the set.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    start..start.saturating_add(spec.and_then(|spec| spec.replicas).unwrap_or(1))
}

/// The place of a pod; none when its name is not of the set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let name = pod.name_any();
    let ordinal = name.strip_prefix(&set.name_any())?.strip_prefix('-')?.parse().ok()?;
    (ordinal >= 0 && pod_name(set, ordinal) == name).then_some(ordinal)
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name_any())
}

pub(super) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", template.name_any(), pod_name(set, ordinal))
}

pub(super) fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The pod for a place, in this revision.
pub(super) fn pod(set: &StatefulSet, revision: &Revision, ordinal: i32) -> Pod {
    let mut pod = template::pod(set, &revision.template);
    let name = pod_name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_REVISION.to_owned(), revision.name.clone());
    pod.metadata.name = Some(name.clone());
    label(&mut pod, &name, ordinal);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let claimed = claim_templates(set).iter().map(|template| Volume {
        name: template.name_any(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    });
    let mut volumes: Vec<_> = claimed.collect();
    let others = spec.volumes.take().unwrap_or_default();
    // A claim goes before a volume of the same name in the template.
    volumes
        .extend(others.into_iter().filter(|it| claim_templates(set).iter().all(|claim| claim.name_any() != it.name)));
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

/// The same pod with the labels of its place; none when it has them.
pub(super) fn relabelled(set: &StatefulSet, pod: &Pod) -> Option<Pod> {
    let ordinal = ordinal(set, pod)?;
    let name = pod_name(set, ordinal);
    if pod.labels().get(POD_NAME) == Some(&name) {
        return None;
    }
    let mut relabelled = pod.clone();
    label(&mut relabelled, &name, ordinal);
    Some(relabelled)
}

fn label(pod: &mut Pod, name: &str, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.to_owned());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
}

/// The name of the revision that a pod was made from.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).map_or("", String::as_str)
}
