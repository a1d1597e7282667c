//! Which rules of preparation each kind has.

use serde_json::{Value, json};

use super::{job, keep, pod};
use crate::defaults::TEMPLATE_GENERATION;
use crate::edit::Edit;
use crate::kinds::Kind;

/// What moves `metadata.generation`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// The kind has none.
    None,
    Spec,
    SpecAndAnnotations,
    /// Everything but the metadata.
    All,
    AllAndLabels,
    /// Custom resources: everything but the metadata and a status that is served apart.
    AllButStatus,
}

type Update = fn(&mut Value, &Value);

pub(super) struct Rules {
    group: &'static str,
    kind: &'static str,
    pub(super) generation: Generation,
    /// Whether the status is written through `/status` alone.
    pub(super) status: bool,
    pub(super) create: fn(&mut Value),
    pub(super) update: Update,
    pub(super) status_update: Update,
}

/// A kind without generation or status.
const fn kind(group: &'static str, kind: &'static str) -> Rules {
    Rules {
        group,
        kind,
        generation: Generation::None,
        status: false,
        create: |_| {},
        update: |_, _| {},
        status_update: |_, _| {},
    }
}

impl Rules {
    const fn generation(self, generation: Generation) -> Self {
        Self { generation, ..self }
    }

    const fn status(self) -> Self {
        Self { status: true, ..self }
    }

    const fn create(self, create: fn(&mut Value)) -> Self {
        Self { create, ..self }
    }

    const fn update(self, update: Update) -> Self {
        Self { update, ..self }
    }

    const fn status_update(self, status_update: Update) -> Self {
        Self { status_update, ..self }
    }
}

pub(super) fn rules(kind: &Kind) -> &'static Rules {
    KINDS.iter().find(|rules| kind.is(rules.group, rules.kind)).unwrap_or(&UNKNOWN)
}

static UNKNOWN: Rules = kind("", "");

static KINDS: &[Rules] = &[
    kind("", "Pod").generation(Generation::Spec).create(pod::create).update(pod::update).status_update(pod::status),
    kind("", "PodTemplate").generation(Generation::All),
    kind("", "ReplicationController").generation(Generation::Spec).status(),
    kind("", "Service").status().create(service_create).update(service_update),
    kind("", "Namespace").create(namespace_create).update(|new, old| {
        keep(new, old, "spec");
        keep(new, old, "status");
    }),
    kind("", "Node").update(|new, old| keep(new, old, "status")),
    kind("", "PersistentVolume").status().create(|volume| volume.put("status", json!({"phase": "Pending"}))),
    kind("", "PersistentVolumeClaim")
        .status()
        .create(|claim| {
            claim.put("status", json!({"phase": "Pending"}));
            data_source(claim.ensure("spec"));
        })
        .update(|claim, _| data_source(claim.ensure("spec"))),
    kind("", "ResourceQuota").status(),
    kind("", "Secret").update(|new, old| {
        if new.text("type").is_empty() {
            keep(new, old, "type");
        }
    }),
    kind("", "ServiceAccount").create(names_of_secrets).update(|account, _| names_of_secrets(account)),
    kind("apps", "Deployment").generation(Generation::SpecAndAnnotations).status().status_update(|new, old| {
        let labels = old["metadata"].get("labels").cloned();
        let meta = new.ensure("metadata");
        match labels {
            Some(labels) => meta.put("labels", labels),
            None => drop(meta.cut("labels")),
        }
    }),
    kind("apps", "ReplicaSet").generation(Generation::Spec).status(),
    kind("apps", "StatefulSet").generation(Generation::Spec).status(),
    kind("apps", "DaemonSet")
        .generation(Generation::Spec)
        .status()
        .create(|set| {
            set.ensure("metadata").ensure("annotations").put(TEMPLATE_GENERATION, "1");
        })
        .update(daemon_set_update),
    kind("batch", "Job").generation(Generation::Spec).status().update(job::update),
    kind("batch", "CronJob").generation(Generation::Spec).status(),
    kind("networking.k8s.io", "Ingress").generation(Generation::Spec).status(),
    kind("networking.k8s.io", "IngressClass").generation(Generation::Spec),
    kind("networking.k8s.io", "NetworkPolicy").generation(Generation::Spec),
    kind("networking.k8s.io", "ServiceCIDR").status(),
    kind("policy", "PodDisruptionBudget").generation(Generation::Spec).status(),
    kind("autoscaling", "HorizontalPodAutoscaler").status(),
    kind("discovery.k8s.io", "EndpointSlice").generation(Generation::AllAndLabels).create(|slice| {
        for endpoint in slice.each("endpoints") {
            endpoint.cut("deprecatedTopology");
        }
    }),
    kind("coordination.k8s.io", "Lease").create(lease_without_gates).update(|lease, old| {
        if !old["spec"].has("strategy") {
            lease_without_gates(lease);
        }
    }),
    kind("scheduling.k8s.io", "PriorityClass").generation(Generation::All),
    kind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration").generation(Generation::All),
    kind("admissionregistration.k8s.io", "MutatingWebhookConfiguration").generation(Generation::All),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy").generation(Generation::Spec).status(),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding").generation(Generation::Spec),
    kind("flowcontrol.apiserver.k8s.io", "FlowSchema").generation(Generation::Spec).status(),
    kind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration").generation(Generation::Spec).status(),
    kind("resource.k8s.io", "DeviceClass").generation(Generation::Spec),
    kind("resource.k8s.io", "ResourceSlice").generation(Generation::Spec),
    kind("resource.k8s.io", "ResourceClaim").status(),
    kind("storage.k8s.io", "VolumeAttachment").status(),
    kind("storage.k8s.io", "CSIDriver").generation(Generation::Spec).create(|driver| {
        driver.ensure("metadata").cut("generation");
    }),
    kind("certificates.k8s.io", "CertificateSigningRequest").status(),
    kind("apiextensions.k8s.io", "CustomResourceDefinition").generation(Generation::Spec).status(),
];

/// Coordinated elections are behind a gate that is off.
fn lease_without_gates(lease: &mut Value) {
    if let Some(spec) = lease.child("spec") {
        spec.cut("strategy");
        spec.cut("preferredHolder");
    }
}

const NAMESPACE_FINALIZER: &str = "kubernetes";

fn namespace_create(namespace: &mut Value) {
    namespace.put("status", json!({"phase": "Active"}));
    let finalizers = namespace.ensure("spec").get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    if !finalizers.iter().any(|name| name == NAMESPACE_FINALIZER) {
        let all: Vec<Value> = finalizers.into_iter().chain([NAMESPACE_FINALIZER.into()]).collect();
        namespace.ensure("spec").put("finalizers", all);
    }
}

/// Counts the changes of the template.
fn daemon_set_update(new: &mut Value, old: &Value) {
    let before: i64 = old["metadata"]["annotations"].text(TEMPLATE_GENERATION).parse().unwrap_or_default();
    let count = before + i64::from(new["spec"].get("template") != old["spec"].get("template"));
    new.ensure("metadata").ensure("annotations").put(TEMPLATE_GENERATION, count.to_string());
}

/// `dataSource` and `dataSourceRef` name the same thing as long as they can.
fn data_source(spec: &mut Value) {
    let volume_kind = |source: &Value| {
        let core = !source.holds("apiGroup") && source.text("kind") == "PersistentVolumeClaim";
        core || source.text("apiGroup") == "snapshot.storage.k8s.io" && source.text("kind") == "VolumeSnapshot"
    };
    if spec.get("dataSource").is_some_and(|source| !source.is_null() && !volume_kind(source)) {
        spec.cut("dataSource");
    }
    if spec.has("dataSourceRef") && spec["dataSourceRef"].holds("namespace") {
        return;
    }
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => spec.put("dataSourceRef", source),
        (None, Some(source)) if volume_kind(&source) => spec.put("dataSource", source),
        _ => {}
    }
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.child(field) {
            source.default("apiGroup", Value::Null);
        }
    }
}

/// The one address of older clients is the first of the list.
fn service_create(service: &mut Value) {
    let spec = service.ensure("spec");
    if spec.holds("clusterIP") && !spec.holds("clusterIPs") {
        let first = spec["clusterIP"].clone();
        spec.put("clusterIPs", json!([first]));
    }
}

/// A client that knows one address alone changes the list with it.
fn follow_single_address(spec: &mut Value, before: &Value) {
    let same_list = spec.get("clusterIPs") == before.get("clusterIPs");
    if !same_list || spec.text("clusterIP") == before.text("clusterIP") {
        return;
    }
    match spec["clusterIP"].clone() {
        Value::String(ip) if !ip.is_empty() => spec.put("clusterIPs", json!([ip])),
        _ => drop(spec.cut("clusterIPs")),
    }
}

/// What a Service keeps when a manifest is silent about it, and what goes when its type changes.
fn service_update(new: &mut Value, old: &Value) {
    let (kind, old_kind) = (new["spec"].text("type").to_owned(), old["spec"].text("type").to_owned());
    let spec = new.ensure("spec");
    let before = &old["spec"];
    follow_single_address(spec, before);
    if kind != "ExternalName" && old_kind != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if !spec.holds(field) {
                keep(spec, before, field);
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if !spec.has(field) {
                keep(spec, before, field);
            }
        }
    }
    if kind == "ExternalName" && old_kind != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if spec.get(field) == before.get(field) {
                spec.cut(field);
            }
        }
    }
    if kind != "ExternalName" && spec.text("externalName") == before.text("externalName") {
        spec.cut("externalName");
    }
    let on_nodes = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if on_nodes(&kind) && on_nodes(&old_kind) {
        kept_node_ports(spec, before);
    }
    if !on_nodes(&kind) && on_nodes(&old_kind) {
        let old_ports: Vec<&Value> = before["ports"].as_array().into_iter().flatten().collect();
        for port in spec.each("ports") {
            if old_ports.iter().any(|old| old.get("nodePort") == port.get("nodePort")) {
                port.cut("nodePort");
            }
        }
        if !spec.holds("externalIPs") && spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") {
            spec.cut("externalTrafficPolicy");
        }
    }
    if old_kind == "LoadBalancer" && kind != "LoadBalancer" {
        for field in ["healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field) == before.get(field) {
                spec.cut(field);
            }
        }
    } else if kind == "LoadBalancer"
        && !spec.has("healthCheckNodePort")
        && spec.text("externalTrafficPolicy") == "Local"
    {
        keep(spec, before, "healthCheckNodePort");
    }
    if old_kind == "LoadBalancer" && kind == "LoadBalancer" && spec.text("externalTrafficPolicy") != "Local" {
        spec.cut("healthCheckNodePort");
    }
    if old_kind == "LoadBalancer" && kind != "LoadBalancer" {
        new.ensure("status").put("loadBalancer", json!({}));
    }
}

/// Ports that say nothing keep the node port they had, recognised by protocol and number.
fn kept_node_ports(spec: &mut Value, before: &Value) {
    let id = |port: &Value| (port.text("protocol").to_owned(), port["port"].clone());
    let old_ports: Vec<&Value> = before["ports"].as_array().into_iter().flatten().collect();
    for port in spec.each("ports").filter(|port| !port.holds("nodePort")) {
        if let Some(old) = old_ports.iter().find(|old| id(old) == id(port)) {
            keep(port, old, "nodePort");
        }
    }
}

/// Of the secrets of an account only the names are kept.
fn names_of_secrets(account: &mut Value) {
    for secret in account.each("secrets") {
        *secret = secret.get("name").map_or_else(|| json!({}), |name| json!({"name": name}));
    }
}
