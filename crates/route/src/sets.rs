//! ListenerSets: which Gateway each is for, and whether that takes it.

use std::collections::BTreeMap;

use sluice_model::gateway::{GROUP, RouteNamespaces};

use crate::facts::{GatewayFacts, ListenerSetFacts, ObjectKey, World};
use crate::namespaces::admits;

/// A ListenerSet for a Gateway of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership<'w> {
    pub(crate) key: &'w ObjectKey,
    pub(crate) facts: &'w ListenerSetFacts,
    pub(crate) gateway: &'w ObjectKey,
    /// The Gateway allows it.
    pub(crate) is_admitted: bool,
}

/// In order of precedence: the older before the younger, then by name.
pub(crate) fn memberships(world: &World) -> Vec<Membership<'_>> {
    let ours: BTreeMap<&ObjectKey, &GatewayFacts> = world.our_gateways().map(|(key, facts)| (key, &**facts)).collect();
    let sets = world.listener_sets.iter().filter_map(|(key, facts)| {
        let (gateway, parent) = ours.get_key_value(&parent_of(key, facts)?)?;
        let allowed = parent.spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        let nobody = RouteNamespaces { from: Some("None".to_owned()), selector: None };
        let is_admitted = admits(world, allowed.unwrap_or(&nobody), "None", &gateway.namespace, &key.namespace);
        Some(Membership { key, facts, gateway, is_admitted })
    });
    let mut sets: Vec<_> = sets.collect();
    sets.sort_by_key(|set| (set.facts.created, set.key));
    sets
}

fn parent_of(key: &ObjectKey, facts: &ListenerSetFacts) -> Option<ObjectKey> {
    let parent = &facts.spec.parent_ref;
    let (group, kind) = (parent.group.as_deref().unwrap_or(GROUP), parent.kind.as_deref().unwrap_or("Gateway"));
    (group == GROUP && kind == "Gateway")
        .then(|| ObjectKey::new(parent.namespace.as_deref().unwrap_or(&key.namespace), parent.name.as_str()))
}
