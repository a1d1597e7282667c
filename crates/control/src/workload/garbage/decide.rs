//! What becomes of an object, given the state of its owners and dependents.

use std::fmt;

use super::graph::{FOREGROUND, Node, ORPHAN};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    /// It is there.
    Solid,
    /// It is not, or the reference means another.
    Absent,
    /// It is being deleted and waits for this object.
    Waiting,
}

#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Nothing,
    /// Owners that are gone are struck from the list; some others remain.
    Disown(Vec<String>),
    Delete(Propagation),
    /// The dependents are set free, then the finalizer goes.
    Orphan(Vec<Node>),
    Finish(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to do"),
            Self::Disown(owners) => write!(f, "strike {} owners", owners.len()),
            Self::Delete(propagation) => write!(f, "delete ({propagation:?})"),
            Self::Orphan(dependents) => write!(f, "orphan {} dependents", dependents.len()),
            Self::Finish(finalizer) => write!(f, "remove finalizer {finalizer}"),
        }
    }
}

/// `owners` are as many as `node.owners`, in their order.
pub(super) fn decide(node: &Node, owners: &[Ownership], dependents: Vec<Node>) -> Decision {
    if node.frees_dependents() {
        return Decision::Orphan(dependents);
    }
    if node.waits_for_dependents() {
        let is_blocked = dependents.iter().any(|dependent| dependent.blocks(&node.uid));
        return if is_blocked { Decision::Nothing } else { Decision::Finish(FOREGROUND) };
    }
    if node.is_deleted || owners.is_empty() {
        return Decision::Nothing;
    }
    if owners.contains(&Ownership::Solid) {
        let gone = node.owners.iter().zip(owners).filter(|(_, state)| **state != Ownership::Solid);
        let gone: Vec<_> = gone.map(|(owner, _)| owner.uid.clone()).collect();
        return if gone.is_empty() { Decision::Nothing } else { Decision::Disown(gone) };
    }
    if owners.contains(&Ownership::Waiting) && !dependents.is_empty() {
        return Decision::Delete(Propagation::Foreground);
    }
    Decision::Delete(if node.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if node.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
    use kube::core::ApiResource;

    use super::super::super::resources::Kind;
    use super::*;

    fn node(uid: &str, owners: &[&str], finalizers: &[&str]) -> Node {
        let owners = owners.iter().map(|uid| OwnerReference {
            uid: (*uid).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        });
        let meta = ObjectMeta {
            name: Some(uid.to_owned()),
            uid: Some(uid.to_owned()),
            owner_references: Some(owners.collect()),
            finalizers: Some(finalizers.iter().map(|it| (*it).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        let kind = Kind { resource: ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()), is_namespaced: true };
        Node::new(&kind, &meta).unwrap()
    }

    fn deleted(mut node: Node) -> Node {
        node.is_deleted = true;
        node
    }

    fn check(node: &Node, owners: &[Ownership], dependents: Vec<Node>, expected: &str) {
        assert_eq!(decide(node, owners, dependents).to_string(), expected);
    }

    #[test]
    fn an_object_lives_as_long_as_one_owner() {
        use Ownership::{Absent, Solid, Waiting};
        let two = node("a", &["o", "p"], &[]);
        check(&two, &[Solid, Solid], vec![], "nothing to do");
        check(&two, &[Solid, Absent], vec![], "strike 1 owners");
        check(&two, &[Waiting, Solid], vec![], "strike 1 owners");
        check(&two, &[Absent, Absent], vec![], "delete (Background)");
        check(&two, &[Absent, Waiting], vec![node("d", &["a"], &[])], "delete (Foreground)");
        check(&two, &[Absent, Waiting], vec![], "delete (Background)");
        check(&node("a", &["o"], &["orphan"]), &[Absent], vec![], "delete (Orphan)");
        check(&deleted(two), &[Absent, Absent], vec![], "nothing to do");
        check(&node("a", &[], &[]), &[], vec![], "nothing to do");
    }

    #[test]
    fn who_is_deleted_frees_or_awaits_its_dependents() {
        let dependent = || node("d", &["a"], &[]);
        let mut indifferent = dependent();
        indifferent.owners[0].block_owner_deletion = Some(false);
        check(&deleted(node("a", &[], &["orphan"])), &[], vec![dependent()], "orphan 1 dependents");
        let waiting = deleted(node("a", &[], &["foregroundDeletion"]));
        check(&waiting, &[], vec![dependent()], "nothing to do");
        check(&waiting, &[], vec![indifferent], "remove finalizer foregroundDeletion");
        check(&waiting, &[], vec![], "remove finalizer foregroundDeletion");
    }
}
