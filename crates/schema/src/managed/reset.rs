//! Fields that an endpoint does not write: nobody owns them by a write to it.

use super::set::Set;
use crate::kinds::Kind;

/// What a body may say without owning it: `status` in the object itself, everything else in `status`.
pub(super) fn ignored(kind: &Kind, subresource: Option<&str>) -> Set {
    let paths: &[&[&str]] = match subresource {
        None if kind.has_status() => &[&["status"]],
        None | Some("scale") => &[],
        Some("status") => status_ignores(kind),
        Some("approval") => &[&["spec"]],
        Some(_) => &[&["status"]],
    };
    paths.iter().fold(Set::default(), |set, path| set.union(&Set::of_fields(path.iter().copied())))
}

fn status_ignores(kind: &Kind) -> &'static [&'static [&'static str]] {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        ("apps", "Deployment") => &[&["spec"], &["metadata", "labels"]],
        ("apiextensions.k8s.io", "CustomResourceDefinition") => &[&["spec"], &["metadata"]],
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
