//! Admission webhooks and policies, flow control.

use serde_json::{Value, json};

use crate::edit::Edit;

pub(super) fn validating(object: &mut Value) {
    object.each("webhooks").for_each(webhook);
}

pub(super) fn mutating(object: &mut Value) {
    for hook in object.each("webhooks") {
        webhook(hook);
        hook.default("reinvocationPolicy", "Never");
    }
}

fn webhook(hook: &mut Value) {
    hook.default("failurePolicy", "Fail");
    hook.default("matchPolicy", "Equivalent");
    hook.default("namespaceSelector", json!({}));
    hook.default("objectSelector", json!({}));
    hook.default("timeoutSeconds", 10);
    hook.each("rules").for_each(rule);
    if let Some(service) = hook.child("clientConfig").and_then(|config| config.child("service")) {
        service.default("port", 443);
    }
}

fn rule(rule: &mut Value) {
    rule.default("scope", "*");
}

pub(super) fn policy(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("failurePolicy", "Fail");
    if let Some(constraints) = spec.child("matchConstraints") {
        match_resources(constraints);
    }
}

pub(super) fn policy_binding(object: &mut Value) {
    if let Some(resources) = object.child("spec").and_then(|spec| spec.child("matchResources")) {
        match_resources(resources);
    }
}

fn match_resources(resources: &mut Value) {
    resources.default("matchPolicy", "Equivalent");
    resources.default("namespaceSelector", json!({}));
    resources.default("objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        resources.each(list).for_each(rule);
    }
}

pub(super) fn flow_schema(object: &mut Value) {
    let spec = object.ensure("spec");
    if !spec.holds("matchingPrecedence") {
        spec.put("matchingPrecedence", 1000);
    }
}

pub(super) fn priority_level(object: &mut Value) {
    let spec = object.ensure("spec");
    if let Some(exempt) = spec.child("exempt") {
        exempt.default("nominalConcurrencyShares", 0);
        exempt.default("lendablePercent", 0);
    }
    if let Some(limited) = spec.child("limited") {
        limited.default("nominalConcurrencyShares", 30);
        limited.default("lendablePercent", 0);
        if let Some(queuing) = limited.child("limitResponse").and_then(|response| response.child("queuing")) {
            for (field, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                if !queuing.holds(field) {
                    queuing.put(field, value);
                }
            }
        }
    }
}
