//! Fields that an endpoint does not write: nobody owns them by a write to it.

use super::set::Set;
use crate::kinds::Kind;

/// Which fields of a body count.
pub(super) enum Filter {
    /// All but these, with everything below them.
    Except(Set),
    /// Only these, with everything below them; `None` is any step.
    Only(&'static [&'static [Option<&'static str>]]),
}

type Paths = &'static [&'static [&'static str]];

impl Filter {
    /// In the object itself all but `status`, in `status` all but the rest.
    pub(super) fn of(kind: &Kind, subresource: Option<&str>) -> Self {
        let ignored: Paths = match subresource {
            None => main_ignores(kind),
            Some("status") => status_ignores(kind),
            Some("approval") => &[&["spec"], &["status", "certificate"]],
            Some("resize") => return Self::Only(RESIZED),
            Some("ephemeralcontainers") => return Self::Only(&[&[Some("spec"), Some("ephemeralContainers")]]),
            Some("scale") => &[],
            Some(_) => &[&["status"]],
        };
        Self::Except(ignored.iter().fold(Set::default(), |set, path| set.union(&Set::of_fields(path.iter().copied()))))
    }

    pub(super) fn apply(&self, fields: &Set) -> Set {
        match self {
            Self::Except(ignored) => fields.without(ignored),
            Self::Only(paths) => fields.only(paths),
        }
    }
}

/// What `pods/resize` writes.
const RESIZED: &[&[Option<&str>]] = &[
    &[Some("spec"), Some("containers"), None, Some("resources")],
    &[Some("spec"), Some("containers"), None, Some("resizePolicy")],
    &[Some("spec"), Some("initContainers"), None, Some("resources")],
    &[Some("spec"), Some("initContainers"), None, Some("resizePolicy")],
];

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
