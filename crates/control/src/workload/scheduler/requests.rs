//! What pods ask of a node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use sluice_model::quantity::Quantity;

/// Amounts by resource name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

pub(super) fn parse(written: &BTreeMap<String, Written>) -> Amounts {
    written.iter().filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect()
}

/// What a node keeps free for a pod: its containers together, or the hungriest init container beside the sidecars that
/// started before it.
pub(super) fn of(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut total, &requests(container)));
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let wanted = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &wanted);
            raise(&mut peak, &sidecars);
        } else {
            let mut at_once = sidecars.clone();
            add(&mut at_once, &wanted);
            raise(&mut peak, &at_once);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    add(&mut total, &spec.overhead.as_ref().map(parse).unwrap_or_default());
    total
}

fn requests(container: &Container) -> Amounts {
    container.resources.as_ref().and_then(|it| it.requests.as_ref()).map(parse).unwrap_or_default()
}

pub(super) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).map_or(*amount, |before| *before + *amount);
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let most = total.get(name).map_or(*amount, |before| (*before).max(*amount));
        total.insert(name.clone(), most);
    }
}
