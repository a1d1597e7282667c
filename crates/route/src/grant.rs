//! References into other namespaces need a ReferenceGrant there.

use sluice_model::gateway::{GROUP, GrantFrom, GrantTo};

use crate::facts::{ObjectKey, World};

/// Objects of a Gateway API kind that refer to others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Referrer<'a> {
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// Whether they may refer to this object of the core API: within their namespace always.
pub(crate) fn granted(world: &World, from: Referrer<'_>, kind: &str, target: &ObjectKey) -> bool {
    let from_them =
        |source: &GrantFrom| source.group == GROUP && source.kind == from.kind && source.namespace == from.namespace;
    let to_it = |to: &GrantTo| {
        to.group.is_empty() && to.kind == kind && to.name.as_ref().is_none_or(|name| *name == target.name)
    };
    target.namespace == from.namespace
        || world
            .grants
            .iter()
            .filter(|(grant, _)| grant.namespace == target.namespace)
            .any(|(_, grant)| grant.from.iter().any(from_them) && grant.to.iter().any(to_it))
}
