//! Which defaults each kind has.

use serde_json::Value;

use super::{autoscaling, batch, cluster, config, network, pod, storage, webhooks, workloads};
use crate::edit::Edit;
use crate::kinds::Kind;

type Defaults = fn(&mut Value);

/// The defaults of a kind; those of an unknown one are none.
pub(super) fn defaults(kind: &Kind) -> Defaults {
    KINDS.iter().find(|(group, name, _)| kind.is(group, name)).map_or(|_: &mut Value| {}, |(_, _, defaults)| *defaults)
}

const KINDS: &[(&str, &str, Defaults)] = &[
    ("", "Pod", pod::pod),
    ("", "PodTemplate", |object| pod::template(object, "template")),
    ("apps", "Deployment", workloads::deployment),
    ("apps", "ReplicaSet", workloads::replica_set),
    ("", "ReplicationController", workloads::replication_controller),
    ("apps", "StatefulSet", workloads::stateful_set),
    ("apps", "DaemonSet", workloads::daemon_set),
    ("batch", "Job", batch::job),
    ("batch", "CronJob", batch::cron_job),
    ("", "Service", network::service),
    ("", "Endpoints", network::endpoints),
    ("discovery.k8s.io", "EndpointSlice", network::endpoint_slice),
    ("networking.k8s.io", "NetworkPolicy", network::network_policy),
    ("networking.k8s.io", "IngressClass", network::ingress_class),
    ("", "ConfigMap", |_| {}),
    ("", "Secret", config::secret),
    ("", "Namespace", cluster::namespace),
    ("", "Node", cluster::node),
    ("", "LimitRange", cluster::limit_range),
    ("", "ResourceQuota", |object| cluster::round_resources(object, &["spec", "hard"])),
    ("rbac.authorization.k8s.io", "RoleBinding", cluster::role_binding),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", cluster::role_binding),
    ("scheduling.k8s.io", "PriorityClass", cluster::priority_class),
    ("node.k8s.io", "RuntimeClass", cluster::runtime_class),
    ("resource.k8s.io", "ResourceClaim", |object| cluster::device_requests(object.ensure("spec"))),
    ("resource.k8s.io", "ResourceClaimTemplate", |object| {
        cluster::device_requests(object.ensure("spec").ensure("spec"));
    }),
    ("", "PersistentVolume", storage::volume),
    ("", "PersistentVolumeClaim", storage::claim),
    ("storage.k8s.io", "StorageClass", storage::class),
    ("storage.k8s.io", "CSIDriver", storage::csi_driver),
    ("autoscaling", "HorizontalPodAutoscaler", autoscaling::autoscaler),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", webhooks::validating),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", webhooks::mutating),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", webhooks::policy),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", webhooks::policy_binding),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", webhooks::flow_schema),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", webhooks::priority_level),
];
