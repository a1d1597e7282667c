//! The built-in kinds: [`Catalog::builtin`] and its lookups.
//!
//! The data is text (`data/*.txt`, made by `cargo xtask schema`) and is read once, on first use.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::kinds::{GroupVersionKind, Kind};
use crate::types::{Arena, Ty, TypeId};
pub(crate) use parse::{KINDS, TYPES};

/// All built-in kinds with their types.
#[derive(Debug)]
pub struct Catalog {
    arena: Arc<Arena>,
    /// In the order of discovery: groups first, kinds by name within a version.
    kinds: Vec<Arc<Kind>>,
    /// Bodies that are no resources of their own: `Scale`, `Eviction`, `TokenRequest`, `DeleteOptions`, ...
    bodies: Vec<(GroupVersionKind, TypeId)>,
    types: HashMap<String, TypeId>,
}

impl Catalog {
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalog> = OnceLock::new();
        BUILTIN.get_or_init(parse::load)
    }

    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// The kind served at `/apis/{group}/{version}/{plural}`.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|k| k.plural == plural && k.version == version && k.group == group)
    }

    /// The kind that an object with this `apiVersion` and `kind` is.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|k| k.kind == kind && k.version == version && k.group == group)
    }

    /// The type of any body the API understands: of kinds, and of what only subresources and verbs carry.
    pub fn body(&self, group: &str, version: &str, kind: &str) -> Option<Ty<'_>> {
        if let Some(found) = self.kind(group, version, kind) {
            return Some(self.arena.at(found.root));
        }
        let body = self.bodies.iter().find(|(g, _)| g.kind == kind && g.version == version && g.group == group);
        // Options are known in every group.
        let body = body.or_else(|| self.bodies.iter().find(|(g, _)| g.kind == kind && g.group == "meta.k8s.io"));
        body.map(|(_, id)| self.arena.at(*id))
    }

    /// A type by its published name, `io.k8s.api.core.v1.PodSpec`.
    pub fn ty(&self, published: &str) -> Option<Ty<'_>> {
        self.types.get(published).map(|id| self.arena.at(*id))
    }
}
