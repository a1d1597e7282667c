//! The table of kinds: what a kind is called, where it is served, what may be done with it.
//!
//! Built-in kinds come from the generated data ([`Catalog::builtin`]), custom ones are compiled from their definitions;
//! both are the same [`Kind`], so nothing above asks which it has.

use std::fmt;
use std::sync::Arc;

use crate::crd::Custom;
use crate::types::{Arena, Ty, TypeId};

/// `group/version/Kind`; the core group is the empty string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// One resource in one version, as the API serves it.
#[derive(Debug, Clone)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// The hash that discovery publishes, as the real server prints it (empty where it has none).
    pub storage_version_hash: String,
    /// The version objects are stored in; two versions of one resource share their storage.
    pub storage_version: String,
    /// The group they are stored in: their own, but the core group for `events.k8s.io`.
    pub storage_group: String,
    pub arena: Arc<Arena>,
    pub root: TypeId,
    /// What only custom resources have: schema, rules, columns, conversion.
    pub custom: Option<Arc<Custom>>,
}

/// `deployments/scale` and its like.
#[derive(Debug, Clone)]
pub struct Subresource {
    pub name: String,
    /// The kind it speaks; `group` and `version` are empty where discovery leaves them out.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Vec<String>,
}

impl Kind {
    pub fn ty(&self) -> Ty<'_> {
        self.arena.at(self.root)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, or `pods` in the core group: how messages name the resource.
    pub fn qualified_plural(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `Deployment.apps`, or `Pod`: how validation messages name the kind.
    pub fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether `status` is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Whether this is the kind `kind` of `group`, whatever the version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => write!(f, "{}, Kind={}", self.version, self.kind),
            group => write!(f, "{group}/{}, Kind={}", self.version, self.kind),
        }
    }
}
