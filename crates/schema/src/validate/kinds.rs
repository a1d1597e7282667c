//! Which rules each kind has.

use super::check::Faults;
use super::cursor::At;
use super::meta::Naming;
use super::names::{self, Problems};
use super::{cluster, config, endpoints, events, pod, service, workloads};
use crate::kinds::Kind;

pub(super) type Create = fn(&mut Faults, &At<'_>);
pub(super) type Update = fn(&mut Faults, &At<'_>, &At<'_>);

/// The rules of one kind, besides those for metadata that all kinds share.
pub(super) struct Rules {
    group: &'static str,
    kind: &'static str,
    name: fn(&str) -> Problems,
    pub(super) create: Create,
    pub(super) update: Update,
    pub(super) status: Update,
}

/// A kind with subdomains as names and no rules yet.
const fn kind(group: &'static str, kind: &'static str) -> Rules {
    Rules { group, kind, name: names::subdomain, create: |_, _| {}, update: |_, _, _| {}, status: |_, _, _| {} }
}

impl Rules {
    const fn name(self, name: fn(&str) -> Problems) -> Self {
        Self { name, ..self }
    }

    const fn create(self, create: Create) -> Self {
        Self { create, ..self }
    }

    const fn update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    const fn status(self, status: Update) -> Self {
        Self { status, ..self }
    }

    pub(super) fn naming(&self, kind: &Kind) -> Naming {
        Naming { namespaced: kind.namespaced, name: self.name, known_finalizers: kind.custom.is_none() }
    }
}

/// The rules of a kind; those of an unknown one are none.
pub(super) fn rules(kind: &Kind) -> &'static Rules {
    KINDS.iter().find(|rules| kind.is(rules.group, rules.kind)).unwrap_or(&UNKNOWN)
}

static UNKNOWN: Rules = kind("", "");

static KINDS: &[Rules] = &[
    kind("", "Pod").create(pod::create).update(pod::update::whole).status(pod::update::status),
    kind("apps", "Deployment")
        .create(workloads::deployment)
        .update(workloads::deployment_update)
        .status(|f, new, _| workloads::deployment_status(f, new)),
    kind("apps", "ReplicaSet")
        .create(workloads::replica_set)
        .update(workloads::replica_set_update)
        .status(|f, new, _| workloads::replica_set_status(f, new)),
    kind("", "ReplicationController")
        .create(workloads::replication_controller)
        .update(|f, new, _| workloads::replication_controller(f, new))
        .status(|f, new, _| workloads::replica_set_status(f, new)),
    kind("", "Service").name(names::label_1035).create(service::whole).update(service::update).status(service::status),
    kind("", "Endpoints").create(endpoints::endpoints).update(|f, new, _| endpoints::endpoints(f, new)),
    kind("discovery.k8s.io", "EndpointSlice").create(endpoints::slice).update(endpoints::slice_update),
    kind("", "ConfigMap").create(config::config_map).update(|f, new, old| {
        config::once_immutable(f, new, old, &["data", "binaryData"]);
        config::config_map(f, new);
    }),
    kind("", "Secret").create(config::secret).update(|f, new, old| {
        f.immutable(&new.get("type"), &old.get("type"));
        config::once_immutable(f, new, old, &["data"]);
        config::secret(f, new);
    }),
    kind("", "Namespace")
        .name(names::label)
        .create(cluster::namespace)
        .status(|f, new, _| cluster::namespace_status(f, new)),
    kind("", "Node").create(cluster::node).update(cluster::node_update),
    kind("coordination.k8s.io", "Lease").create(events::lease).update(|f, new, _| events::lease(f, new)),
    kind("", "Event").create(events::core_event).update(|f, new, _| events::core_event(f, new)),
    kind("events.k8s.io", "Event").create(events::event).update(events::event_update),
];
