//! What pods ask of a node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use sluice_model::resources::{Init, together};

pub(super) use sluice_model::resources::{Amounts, add};

pub(super) fn parse(written: &BTreeMap<String, Written>) -> Amounts {
    written.iter().filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect()
}

/// What a node keeps free for a pod.
pub(super) fn of(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let inits = spec.init_containers.iter().flatten().map(|container| Init {
        is_sidecar: container.restart_policy.as_deref() == Some("Always"),
        amounts: requests(container),
    });
    let mut total = together(spec.containers.iter().map(requests), inits);
    add(&mut total, &spec.overhead.as_ref().map(parse).unwrap_or_default());
    total
}

fn requests(container: &Container) -> Amounts {
    container.resources.as_ref().and_then(|it| it.requests.as_ref()).map(parse).unwrap_or_default()
}
