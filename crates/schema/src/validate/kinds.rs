//! Which rules each kind has.

use super::check::Faults;
use super::cursor::At;
use super::meta::Naming;
use super::names::{self, Problems};
use super::{
    autoscaling, batch, cluster, config, endpoints, events, network, pod, policy, rbac, service, sets, storage,
    webhooks, workloads,
};
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
    /// Whether an update is also checked as if the object were new.
    pub(super) checks_as_new: bool,
}

/// A kind with subdomains as names and no rules yet.
const fn kind(group: &'static str, kind: &'static str) -> Rules {
    Rules {
        group,
        kind,
        name: names::subdomain,
        create: |_, _| {},
        update: |_, _, _| {},
        status: |_, _, _| {},
        checks_as_new: false,
    }
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

    const fn checks_as_new(self) -> Self {
        Self { checks_as_new: true, ..self }
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
    kind("", "Pod").checks_as_new().create(pod::create).update(pod::update::whole).status(pod::update::status),
    kind("apps", "Deployment")
        .create(workloads::deployment)
        .update(workloads::deployment_update)
        .status(|f, new, _| workloads::deployment_status(f, new)),
    kind("apps", "ReplicaSet")
        .checks_as_new()
        .create(workloads::replica_set)
        .update(workloads::replica_set_update)
        .status(|f, new, _| workloads::replica_set_status(f, new)),
    kind("", "ReplicationController")
        .checks_as_new()
        .create(workloads::replication_controller)
        .update(|f, new, _| workloads::replication_controller(f, new))
        .status(|f, new, _| workloads::replica_set_status(f, new)),
    kind("", "Service")
        .checks_as_new()
        .name(names::label_1035)
        .create(service::whole)
        .update(service::update)
        .status(service::status),
    kind("", "Endpoints").create(endpoints::endpoints).update(|f, new, _| endpoints::endpoints(f, new)),
    kind("discovery.k8s.io", "EndpointSlice").checks_as_new().create(endpoints::slice).update(endpoints::slice_update),
    kind("", "ConfigMap").checks_as_new().create(config::config_map).update(|f, new, old| {
        config::once_immutable(f, new, old, &["data", "binaryData"]);
        config::config_map(f, new);
    }),
    kind("", "Secret").checks_as_new().create(config::secret).update(|f, new, old| {
        f.immutable(&new.get("type"), &old.get("type"));
        config::once_immutable(f, new, old, &["data"]);
        config::secret(f, new);
    }),
    kind("", "Namespace")
        .name(names::label)
        .create(cluster::namespace)
        .status(|f, new, _| cluster::namespace_status(f, new)),
    kind("", "Node").checks_as_new().create(cluster::node).update(cluster::node_update),
    kind("coordination.k8s.io", "Lease").create(events::lease).update(|f, new, _| events::lease(f, new)),
    kind("", "Event").create(events::core_event).update(|f, new, _| events::core_event(f, new)),
    kind("events.k8s.io", "Event").create(events::event).update(events::event_update),
    kind("apps", "StatefulSet")
        .name(names::label)
        .create(sets::stateful_set)
        .update(sets::stateful_set_update)
        .status(|f, new, _| sets::stateful_set_status(f, new)),
    kind("apps", "DaemonSet")
        .checks_as_new()
        .create(sets::daemon_set)
        .update(sets::daemon_set_update)
        .status(|f, new, _| sets::daemon_set_status(f, new)),
    kind("apps", "ControllerRevision").create(sets::controller_revision).update(sets::controller_revision_update),
    kind("", "PodTemplate")
        .create(|f, object| pod::template(f, &object.get("template")))
        .update(|f, new, _| pod::template(f, &new.get("template"))),
    kind("batch", "Job").checks_as_new().create(batch::job).update(batch::job_update).status(batch::job_status),
    kind("batch", "CronJob").create(batch::cron_job).update(|f, new, _| batch::cron_spec(f, new)),
    kind("autoscaling", "HorizontalPodAutoscaler")
        .create(autoscaling::autoscaler)
        .update(|f, new, _| autoscaling::autoscaler(f, new)),
    kind("policy", "PodDisruptionBudget")
        .create(policy::disruption_budget)
        .update(|f, new, _| policy::disruption_budget(f, new))
        .status(|f, new, _| policy::disruption_budget_status(f, new)),
    kind("", "ResourceQuota").create(policy::resource_quota).update(|f, new, _| policy::resource_quota(f, new)),
    kind("", "LimitRange").create(policy::limit_range).update(|f, new, _| policy::limit_range(f, new)),
    kind("scheduling.k8s.io", "PriorityClass").create(policy::priority_class).update(policy::priority_class_update),
    kind("node.k8s.io", "RuntimeClass").create(policy::runtime_class).update(policy::runtime_class_update),
    kind("rbac.authorization.k8s.io", "Role")
        .checks_as_new()
        .name(names::path_segment)
        .create(rbac::role)
        .update(|f, new, _| rbac::role(f, new)),
    kind("rbac.authorization.k8s.io", "ClusterRole")
        .checks_as_new()
        .name(names::path_segment)
        .create(rbac::cluster_role)
        .update(|f, new, _| rbac::cluster_role(f, new)),
    kind("rbac.authorization.k8s.io", "RoleBinding")
        .checks_as_new()
        .name(names::path_segment)
        .create(rbac::role_binding)
        .update(|f, new, old| {
            rbac::role_binding(f, new);
            rbac::same_role(f, new, old);
        }),
    kind("rbac.authorization.k8s.io", "ClusterRoleBinding")
        .checks_as_new()
        .name(names::path_segment)
        .create(rbac::cluster_role_binding)
        .update(|f, new, old| {
            rbac::cluster_role_binding(f, new);
            rbac::same_role(f, new, old);
        }),
    kind("networking.k8s.io", "NetworkPolicy")
        .checks_as_new()
        .create(network::network_policy)
        .update(|f, new, _| network::network_policy(f, new)),
    kind("networking.k8s.io", "Ingress").create(network::ingress).update(|f, new, _| network::ingress(f, new)),
    kind("networking.k8s.io", "IngressClass").create(network::ingress_class).update(network::ingress_class_update),
    kind("networking.k8s.io", "IPAddress")
        .name(network::address_name)
        .create(network::address)
        .update(|f, new, _| network::address(f, new)),
    kind("networking.k8s.io", "ServiceCIDR").create(network::service_cidr).update(network::service_cidr_update),
    kind("", "PersistentVolume").create(storage::volume).update(storage::volume_update),
    kind("", "PersistentVolumeClaim")
        .checks_as_new()
        .create(storage::claim)
        .update(storage::claim_update)
        .status(|f, new, _| storage::claim_status(f, new)),
    kind("storage.k8s.io", "StorageClass").create(storage::class).update(storage::class_update),
    kind("storage.k8s.io", "VolumeAttributesClass").update(storage::attributes_class_update),
    kind("storage.k8s.io", "CSIDriver").create(storage::driver).update(storage::driver_update),
    kind("storage.k8s.io", "VolumeAttachment").create(storage::attachment).update(storage::attachment_update),
    kind("storage.k8s.io", "CSIStorageCapacity")
        .create(storage::capacity)
        .update(|f, new, _| storage::capacity(f, new)),
    kind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration")
        .create(webhooks::configuration)
        .update(|f, new, _| webhooks::configuration(f, new)),
    kind("admissionregistration.k8s.io", "MutatingWebhookConfiguration")
        .create(webhooks::configuration)
        .update(|f, new, _| webhooks::configuration(f, new)),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
        .create(webhooks::policy)
        .update(|f, new, _| webhooks::policy(f, new)),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding")
        .create(webhooks::policy_binding)
        .update(|f, new, _| webhooks::policy_binding(f, new)),
    kind("flowcontrol.apiserver.k8s.io", "FlowSchema")
        .create(webhooks::flow_schema)
        .update(|f, new, _| webhooks::flow_schema(f, new)),
    kind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration")
        .create(webhooks::priority_level)
        .update(|f, new, _| webhooks::priority_level(f, new)),
    kind("certificates.k8s.io", "CertificateSigningRequest").create(webhooks::certificate_request),
];
