//! Who owns whom, as far as the watches have told.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::super::informer::Key;
use super::super::resources::Kind;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) is_deleted: bool,
    pub(super) finalizers: Vec<String>,
}

impl Node {
    pub(super) fn new(kind: &Kind, meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            kind: kind.clone(),
            key: Key::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone()?),
            uid: meta.uid.clone()?,
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            is_deleted: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
        })
    }

    /// Its dependents go first.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.is_deleted && self.has_finalizer(FOREGROUND)
    }

    /// Its dependents stay, without it.
    pub(super) fn frees_dependents(&self) -> bool {
        self.is_deleted && self.has_finalizer(ORPHAN)
    }

    pub(super) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|it| it == finalizer)
    }

    pub(super) fn blocks(&self, owner_uid: &str) -> bool {
        self.owners.iter().any(|owner| owner.uid == owner_uid && owner.block_owner_deletion == Some(true))
    }

    /// Whether a reference means this object, and not only its uid.
    fn is_meant_by(&self, owner: &OwnerReference, from: &Node) -> bool {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let is_in_reach = self.key.namespace.is_empty() || self.key.namespace == from.key.namespace;
        is_in_reach
            && owner.name == self.key.name
            && owner.kind == self.kind.resource.kind
            && group == self.kind.resource.group
    }
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// By the owner's uid, which may not be a node yet, or no more.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<Node> {
        self.nodes.get(uid).cloned()
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid)).cloned().collect()
    }

    pub(super) fn uids_of(&self, kind: &Kind) -> Vec<String> {
        self.nodes.values().filter(|node| node.kind == *kind).map(|node| node.uid.clone()).collect()
    }

    /// The owner that a reference means, if it is known to be there.
    pub(super) fn owner(&self, reference: &OwnerReference, of: &Node) -> Option<&Node> {
        self.nodes.get(&reference.uid).filter(|owner| owner.is_meant_by(reference, of))
    }

    /// Whose turn it is after this.
    pub(super) fn put(&mut self, node: Node) -> Vec<String> {
        let mut next = self.unlink(&node.uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        let is_unsettled = |owner: &OwnerReference| self.owner(owner, &node).is_none_or(Node::waits_for_dependents);
        if node.waits_for_dependents() || node.frees_dependents() || node.owners.iter().any(is_unsettled) {
            next.push(node.uid.clone());
        }
        if node.waits_for_dependents() {
            next.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
        }
        self.nodes.insert(node.uid.clone(), node);
        next
    }

    /// Whose turn it is after this.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut next = self.unlink(uid);
        self.nodes.remove(uid);
        next.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        next
    }

    /// Takes a node out of its owners' lists; those that wait for their dependents look again.
    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let owners = self.nodes.get(uid).map(|node| node.owners.clone()).unwrap_or_default();
        let mut waiting = Vec::new();
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents) {
                waiting.push(owner.uid);
            }
        }
        waiting
    }
}
