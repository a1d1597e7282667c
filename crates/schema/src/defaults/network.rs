//! Services, endpoints, network policies, ingress classes.

use serde_json::{Value, json};

use crate::edit::Edit;

const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => drop(spec.cut("sessionAffinityConfig")),
        "ClientIP" => {
            spec.ensure("sessionAffinityConfig").ensure("clientIP").default("timeoutSeconds", AFFINITY_SECONDS);
        }
        _ => {}
    }
    spec.default("type", "ClusterIP");
    for port in spec.each("ports") {
        port.default("protocol", "TCP");
        if !port.holds("targetPort") {
            let number = port["port"].clone();
            port.put("targetPort", number);
        }
    }
    let kind = spec.text("type").to_owned();
    if matches!(kind.as_str(), "LoadBalancer" | "NodePort") || kind == "ClusterIP" && spec.holds("externalIPs") {
        spec.default("externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        spec.default("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default("allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = object.child("status").and_then(|status| status.child("loadBalancer")) {
            for ingress in balancer.each("ingress").filter(|ingress| ingress.holds("ip")) {
                ingress.default("ipMode", "VIP");
            }
        }
    }
}

pub(super) fn endpoints(object: &mut Value) {
    for subset in object.each("subsets") {
        for port in subset.each("ports") {
            port.default("protocol", "TCP");
        }
    }
}

pub(super) fn endpoint_slice(object: &mut Value) {
    for port in object.each("ports") {
        port.default("name", "");
        port.default("protocol", "TCP");
    }
}

pub(super) fn network_policy(object: &mut Value) {
    let spec = object.ensure("spec");
    for (rules, _) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.each(rules) {
            for port in rule.each("ports") {
                port.default("protocol", "TCP");
            }
        }
    }
    if !spec.holds("policyTypes") {
        let types = if spec.holds("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.put("policyTypes", types);
    }
}

pub(super) fn ingress_class(object: &mut Value) {
    if let Some(parameters) = object.child("spec").and_then(|spec| spec.child("parameters")) {
        parameters.default("scope", "Cluster");
    }
}
