//! Quotas of namespaces: what an object uses, which quotas count it, and whether there is room.

mod charge;
mod scope;
#[cfg(test)]
mod tests;
mod usage;

use serde_json::Value;

use crate::quantity::Quantity;
use crate::resources::{self, Amounts};

pub use charge::{Charge, Request, charge};
pub use scope::Scope;
pub use usage::Resource;

/// A quota as its status says it: what is enforced is what has been counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub name: String,
    pub hard: Amounts,
    pub used: Amounts,
    /// All of them must hold for an object to be counted.
    pub scopes: Vec<Scope>,
}

impl Quota {
    pub fn of(object: &Value) -> Self {
        Self {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            hard: resources::read(&object["status"]["hard"]),
            used: resources::read(&object["status"]["used"]),
            scopes: Scope::all_of(&object["spec"]),
        }
    }
}

/// Counts what objects use of the names in `hard`.
#[derive(Debug, Clone)]
pub struct Tally {
    scopes: Vec<Scope>,
    used: Amounts,
}

impl Tally {
    /// Everything that is counted at all starts at zero.
    pub fn new(spec: &Value) -> Self {
        let hard = resources::read(&spec["hard"]);
        let counted = hard.into_keys().filter(|name| Resource::behind(name).is_some());
        let used = counted.map(|name| (name, Quantity::ZERO)).collect();
        Self { scopes: Scope::all_of(spec), used }
    }

    /// The resources whose objects are to be counted, each once.
    pub fn resources(&self) -> Vec<Resource> {
        let mut all: Vec<_> = self.used.keys().filter_map(|name| Resource::behind(name)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Leaves out what counts a resource that nobody knows.
    pub fn forget(&mut self, resource: &Resource) {
        self.used.retain(|name, _| Resource::behind(name).as_ref() != Some(resource));
    }

    pub fn count(&mut self, resource: &Resource, object: &Value, now: jiff::Timestamp) {
        if self.scopes.iter().all(|scope| scope.holds(resource, object)) {
            self.add(resource, &resource.usage(object, now));
        }
    }

    /// Counts objects of which only the number matters; quotas with scopes count none of them.
    pub fn count_plain(&mut self, resource: &Resource, number: i64) {
        if self.scopes.is_empty() {
            let one = Quantity::whole(number);
            let usage = resource.plain_names().into_iter().map(|name| (name, one)).collect();
            self.add(resource, &usage);
        }
    }

    fn add(&mut self, resource: &Resource, usage: &Amounts) {
        for (name, used) in &mut self.used {
            if let Some(amount) = usage.get(name).filter(|_| resource.tracks(name)) {
                *used = *used + *amount;
            }
        }
    }

    pub fn used(self) -> Amounts {
        self.used
    }
}
