//! What containers ask for and may use, summed over their pods as schedulers, quotas and limit ranges do.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Which of its two lists a container says an amount in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Requests,
    Limits,
}

/// What an init container adds to its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Whether it runs on beside all that start after it.
    pub is_sidecar: bool,
    pub amounts: Amounts,
}

/// Reads a resource list; what is no quantity is left out.
pub fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

pub fn add(total: &mut Amounts, more: &Amounts) {
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

/// The containers together, or the hungriest init container beside the sidecars that started before it.
pub fn together(containers: impl IntoIterator<Item = Amounts>, inits: impl IntoIterator<Item = Init>) -> Amounts {
    let mut total = Amounts::new();
    containers.into_iter().for_each(|amounts| add(&mut total, &amounts));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for init in inits {
        if init.is_sidecar {
            add(&mut sidecars, &init.amounts);
            raise(&mut peak, &sidecars);
        } else {
            let mut at_once = sidecars.clone();
            add(&mut at_once, &init.amounts);
            raise(&mut peak, &at_once);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    total
}

impl List {
    /// The list of one container, or of a whole pod where it has one.
    pub fn of(self, owner: &Value) -> Amounts {
        read(&owner["resources"][self.name()])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }

    /// What the containers of a pod make together.
    pub fn of_containers(self, spec: &Value) -> Amounts {
        let each = |field: &str| spec[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let inits = each("initContainers")
            .iter()
            .map(|container| Init { is_sidecar: container["restartPolicy"] == "Always", amounts: self.of(container) });
        together(each("containers").iter().map(|container| self.of(container)), inits)
    }

    /// What a pod as a whole is counted with: its own list before that of its containers, and its overhead.
    pub fn of_pod(self, spec: &Value) -> Amounts {
        let mut total = self.of_containers(spec);
        total.extend(self.of(spec));
        let mut overhead = read(&spec["overhead"]);
        if self == Self::Limits {
            // Nobody is held to a limit that nobody set.
            overhead.retain(|name, _| total.contains_key(name));
        }
        add(&mut total, &overhead);
        total
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(amounts: &Amounts) -> String {
        let parts: Vec<_> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        parts.join(" ")
    }

    #[test]
    fn a_pod_needs_its_containers_or_its_hungriest_init_container() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        let cases = [
            (json!({"containers": [asks("1"), asks("500m")]}), "cpu=1500m"),
            (json!({"containers": [asks("1")], "initContainers": [asks("3"), asks("2")]}), "cpu=3"),
            (json!({"containers": [asks("1")], "initContainers": [sidecar("1"), asks("2")]}), "cpu=3"),
            (json!({"containers": [asks("4")], "initContainers": [asks("4"), sidecar("1")]}), "cpu=5"),
            (json!({"containers": [asks("1")], "overhead": {"cpu": "250m"}}), "cpu=1250m"),
            (json!({"containers": [asks("1")], "resources": {"requests": {"cpu": "3"}}}), "cpu=3"),
        ];
        for (spec, expected) in cases {
            assert_eq!(shown(&List::Requests.of_pod(&spec)), expected, "{spec}");
        }
    }

    #[test]
    fn an_overhead_raises_only_limits_that_are_set() {
        let spec =
            json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}], "overhead": {"cpu": "1", "memory": "1Mi"}});
        assert_eq!(shown(&List::Limits.of_pod(&spec)), "cpu=2");
    }
}
