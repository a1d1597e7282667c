//! Fields that an endpoint does not write: nobody owns them by a write to it.

use super::set::Set;
use crate::kinds::Kind;

type Paths = &'static [&'static [&'static str]];

/// What a body may say without owning it: `status` in the object itself, in `status` everything else. Endpoints that write
/// a part of a pod own whatever their bodies say beside it.
pub(super) fn ignored(kind: &Kind, subresource: Option<&str>) -> Set {
    let paths: Paths = match subresource {
        None => main_ignores(kind),
        Some("status") => status_ignores(kind),
        Some("approval") => &[&["spec"], &["status", "certificate"]],
        Some("finalize") => &[&["status"]],
        Some(_) => &[],
    };
    paths.iter().fold(Set::default(), |set, path| set.union(&Set::of_fields(path.iter().copied())))
}

fn main_ignores(kind: &Kind) -> Paths {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("networking.k8s.io", "ServiceCIDR") => &[],
        ("certificates.k8s.io", "CertificateSigningRequest") => &[&["spec"], &["status"]],
        _ if kind.has_status() => &[&["status"]],
        _ => &[],
    }
}

fn status_ignores(kind: &Kind) -> Paths {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("apps", "Deployment") => &[&["spec"], &["metadata", "labels"]],
        ("certificates.k8s.io", "CertificateSigningRequest") => &[&["spec"], &["status", "conditions"]],
        ("networking.k8s.io", "ServiceCIDR") => &[],
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("apiregistration.k8s.io", "APIService")
        | ("flowcontrol.apiserver.k8s.io", "FlowSchema" | "PriorityLevelConfiguration")
        | ("resource.k8s.io", "ResourceClaim" | "DeviceTaintRule")
        | ("storage.k8s.io", "VolumeAttachment") => &[&["spec"], &["metadata"]],
        _ => &[&["spec"]],
    }
}

/// What identifies an object, or what the server alone sets: nobody owns it.
pub(super) fn never_owned() -> Set {
    const METADATA: [&str; 8] =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"];
    let mut set = Set::default();
    for field in ["apiVersion", "kind", "metadata"] {
        set = set.union(&Set::of_fields([field]));
    }
    METADATA.iter().fold(set, |set, field| set.union(&Set::of_fields(["metadata", field])))
}
