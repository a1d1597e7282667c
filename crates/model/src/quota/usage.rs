//! What one object uses, by the names that quotas have for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::quantity::Quantity;
use crate::resources::{Amounts, List};

/// How a quota counts any objects: `count/deployments.apps`.
const COUNT: &str = "count/";
const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";
const HUGE_PAGE_REQUESTS: &str = "requests.hugepages-";
/// Resources of containers that have names of their own in quotas.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must say once a quota counts it.
const MUST_BE_SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Kinds of the core group that are counted by their bare name, too.
const BARE_NAMES: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// What follows the name of a storage class.
const OF_CLASS: [&str; 2] = [CLASS_STORAGE, CLASS_CLAIMS];
const CLASS_STORAGE: &str = ".storageclass.storage.k8s.io/requests.storage";
const CLASS_CLAIMS: &str = ".storageclass.storage.k8s.io/persistentvolumeclaims";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Nobody counts these.
const UNCOUNTED: [&str; 2] = ["events", "bindings"];

/// A kind of objects that quotas count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub group: String,
    pub plural: String,
}

impl Resource {
    pub fn new(group: &str, plural: &str) -> Self {
        Self { group: group.to_owned(), plural: plural.to_owned() }
    }

    /// Whose objects a name in a quota counts; none for a name that means nothing.
    pub(super) fn behind(name: &str) -> Option<Self> {
        if let Some(counted) = name.strip_prefix(COUNT) {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            return (!UNCOUNTED.contains(&plural)).then(|| Self::new(group, plural));
        }
        let special = ["pods", "persistentvolumeclaims", "services"].map(|plural| Self::new("", plural));
        let bare = BARE_NAMES.contains(&name).then(|| Self::new("", name));
        special.into_iter().find(|resource| resource.tracks(name)).or(bare)
    }

    /// Whether this resource uses what a quota has under this name.
    pub(super) fn tracks(&self, name: &str) -> bool {
        if self.plain_names().iter().any(|own| own == name) {
            return true;
        }
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "pods") => is_of_pods(name),
            ("", "persistentvolumeclaims") => {
                name == "persistentvolumeclaims"
                    || name == "requests.storage"
                    || OF_CLASS.iter().any(|suffix| name.ends_with(suffix))
            }
            ("", "services") => ["services", "services.nodeports", "services.loadbalancers"].contains(&name),
            _ => false,
        }
    }

    /// The names under which every object of this resource is one.
    pub(super) fn plain_names(&self) -> Vec<String> {
        let Self { group, plural } = self;
        if UNCOUNTED.contains(&plural.as_str()) {
            return vec![];
        }
        let dot = if group.is_empty() { "" } else { "." };
        let mut names = vec![format!("{COUNT}{plural}{dot}{group}")];
        if group.is_empty() && BARE_NAMES.contains(&plural.as_str()) {
            names.push(plural.clone());
        }
        names
    }

    /// Whether objects are more than their number.
    pub fn has_details(&self) -> bool {
        self.group.is_empty() && ["pods", "persistentvolumeclaims", "services"].contains(&self.plural.as_str())
    }

    /// Whether a change of an object can use more than before.
    pub(super) fn grows(&self) -> bool {
        self.has_details() && self.plural != "pods"
    }

    pub(super) fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let mut usage: Amounts = self.plain_names().into_iter().map(|name| (name, Quantity::whole(1))).collect();
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "pods") if !has_ended(object, now) => usage.extend(of_pod(&object["spec"])),
            ("", "persistentvolumeclaims") => usage.extend(of_claim(object)),
            ("", "services") => usage.extend(of_service(&object["spec"])),
            _ => {}
        }
        usage
    }

    /// What the object must say before these names can be counted: the names, with the containers that do not say it.
    pub(super) fn missing<'a>(&self, names: &[&'a str], object: &Value) -> BTreeMap<&'a str, BTreeSet<String>> {
        let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let spec = &object["spec"];
        let says_as_a_pod = !List::Requests.of(spec).is_empty() || !List::Limits.of(spec).is_empty();
        if *self != Self::new("", "pods") || says_as_a_pod {
            return missing;
        }
        let containers = ["containers", "initContainers"].into_iter().flat_map(|list| spec[list].as_array());
        for container in containers.flatten() {
            let said = named(&List::Requests.of(container), &List::Limits.of(container));
            for name in names.iter().filter(|name| MUST_BE_SAID.contains(name) && !said.contains_key(**name)) {
                let container = container["name"].as_str().unwrap_or_default();
                missing.entry(name).or_default().insert(container.to_owned());
            }
        }
        missing
    }
}

fn is_of_pods(name: &str) -> bool {
    let compute = |name: &str| COMPUTE.contains(&name);
    name == "pods"
        || compute(name)
        || name.strip_prefix(REQUESTS).is_some_and(|name| compute(name) || is_extended(name))
        || name.strip_prefix("limits.").is_some_and(compute)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with(HUGE_PAGE_REQUESTS)
}

/// Whether a resource is a device or another thing that Kubernetes itself does not know.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// Pods that have ended use nothing but their place in the store; nor do those that their node forgot to end.
fn has_ended(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return true;
    }
    let metadata = &pod["metadata"];
    let due: Option<Timestamp> = metadata["deletionTimestamp"].as_str().and_then(|text| text.parse().ok());
    let grace = metadata["deletionGracePeriodSeconds"].as_i64();
    matches!((due, grace), (Some(due), Some(grace)) if now > due + SignedDuration::from_secs(grace))
}

fn of_pod(spec: &Value) -> Amounts {
    let mut usage = named(&List::Requests.of_pod(spec), &List::Limits.of_pod(spec));
    usage.insert("pods".into(), Quantity::whole(1));
    usage
}

/// Requests and limits under their names in quotas.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    for (name, amount) in requests {
        let (compute, huge) = (COMPUTE.contains(&name.as_str()), name.starts_with(HUGE_PAGES));
        if compute || huge {
            usage.insert(name.clone(), *amount);
        }
        if compute || huge || is_extended(name) {
            usage.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        usage.insert(format!("limits.{name}"), *amount);
    }
    usage
}

fn of_claim(claim: &Value) -> Amounts {
    let one = Quantity::whole(1);
    let mut usage = Amounts::from([("persistentvolumeclaims".to_owned(), one)]);
    let amount = |list: &Value| list["storage"].as_str().and_then(|text| text.parse::<Quantity>().ok());
    let asked = amount(&claim["spec"]["resources"]["requests"]);
    let allocated = amount(&claim["status"]["allocatedResources"]);
    let storage = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    let class = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    let class = class.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty());
    usage.extend(storage.map(|storage| ("requests.storage".to_owned(), storage)));
    if let Some(class) = class {
        usage.insert(format!("{class}{CLASS_CLAIMS}"), one);
        usage.extend(storage.map(|storage| (format!("{class}{CLASS_STORAGE}"), storage)));
    }
    usage
}

fn of_service(spec: &Value) -> Amounts {
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chosen = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
    let node_ports = match spec["type"].as_str() {
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => chosen.count(),
        Some("LoadBalancer" | "NodePort") => ports.len(),
        _ => 0,
    };
    let balancers = i64::from(spec["type"] == "LoadBalancer");
    let numbers = [
        ("services", 1),
        ("services.nodeports", i64::try_from(node_ports).expect("a service has few ports")),
        ("services.loadbalancers", balancers),
    ];
    numbers.into_iter().map(|(name, number)| (name.to_owned(), Quantity::whole(number))).collect()
}
