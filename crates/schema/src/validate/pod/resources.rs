//! Requests and limits.

use sluice_model::quantity::Quantity;

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::quantities::{self, amount};

/// What a container asks for and may use.
pub(super) fn requirements(f: &mut Faults, at: &At<'_>, claims: &[&str]) {
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    let (mut huge_pages, mut cpu_or_memory) = (false, false);
    for (list, is_request) in [(&limits, false), (&requests, true)] {
        for (name, quantity) in list.entries() {
            quantities::container_resource_name(f, &quantity, name);
            quantities::resource_amount(f, &quantity, name);
            if is_request {
                against_limit(f, name, &quantity, &requests, &limits);
            }
            if quantities::is_huge_pages(name) {
                huge_pages = true;
                quantities::whole_pages(f, &quantity, name);
            }
            cpu_or_memory |= matches!(name, "cpu" | "memory");
        }
    }
    if huge_pages && !cpu_or_memory {
        f.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(f, &at.get("claims"), claims);
}

fn against_limit(f: &mut Faults, name: &str, quantity: &At<'_>, requests: &At<'_>, limits: &At<'_>) {
    let limit = limits.map().and_then(|limits| limits.get(name)).and_then(|limit| amount(&limits.with(limit)));
    let Some(request) = amount(quantity) else { return };
    match limit {
        Some(limit) if request != limit && !quantities::may_be_overcommitted(name) => {
            f.invalid_value(requests, request.to_string(), format!("must be equal to {name} limit of {limit}"));
        }
        Some(limit) if request > limit => {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            f.invalid_value(requests, request.to_string(), detail);
        }
        None if !quantities::may_be_overcommitted(name) => {
            f.required(limits, "Limit must be set for non overcommitable resources");
        }
        _ => {}
    }
}

fn claim_names(f: &mut Faults, at: &At<'_>, claims: &[&str]) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in at.items() {
        let name = claim.text("name");
        if name.is_empty() {
            f.required(&claim, "");
            continue;
        }
        let id = (name, claim.text("request"));
        if seen.contains(&id) {
            f.add(crate::fault::Fault::duplicate(claim.path(), name));
        } else {
            seen.push(id);
        }
        if !claims.contains(&name) {
            let empty = if claims.is_empty() { " which is empty" } else { "" };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{empty}");
            f.add(crate::fault::Fault::not_found(claim.path(), name, detail));
        }
    }
}

pub(super) fn resize_policy(f: &mut Faults, at: &At<'_>) {
    let mut seen = Vec::new();
    for policy in at.items() {
        let name = policy.get("resourceName");
        if seen.contains(&name.str()) {
            f.duplicate(at);
        }
        seen.push(name.str());
        f.present_one_of(&name, &["cpu", "memory"]);
        f.present_one_of(&policy.get("restartPolicy"), &["NotRequired", "RestartContainer"]);
    }
}

/// Requests and limits of the pod as a whole.
pub(super) fn of_pod(f: &mut Faults, spec: &At<'_>, claims: &[&str]) {
    let at = spec.get("resources");
    if !at.is_set() {
        return;
    }
    requirements(f, &at, claims);
    for (name, quantity) in at.get("requests").entries() {
        let of_containers: Quantity = spec
            .get("containers")
            .items()
            .filter_map(|container| amount(&container.dig(&["resources", "requests"]).get(name)))
            .sum();
        if amount(&quantity).is_some_and(|request| request < of_containers) {
            let detail = format!("must be greater than or equal to aggregate container requests of {of_containers}");
            f.invalid(&quantity, detail);
        }
    }
    for (name, quantity) in at.get("limits").entries() {
        for container in spec.get("containers").items() {
            let limit = container.dig(&["resources", "limits"]).key(name);
            if let (Some(own), Some(pods)) = (amount(&limit), amount(&quantity))
                && own > pods
            {
                f.invalid(&limit, format!("must be less than or equal to pod limits of {pods}"));
            }
        }
    }
}

/// What a runtime class adds to a pod.
pub(crate) fn overhead(f: &mut Faults, at: &At<'_>) {
    for (name, quantity) in at.entries() {
        quantities::container_resource_name(f, &quantity, name);
        quantities::resource_amount(f, &quantity, name);
    }
}
