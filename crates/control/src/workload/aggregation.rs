//! Fills aggregated ClusterRoles with the rules of the roles that their selectors name.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::informer::{Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, claim};

/// Applied under this name, so that rules of others stay until there is one to put in their place.
const MANAGER: &str = "clusterrole-aggregation-controller";

pub(super) struct Aggregations {
    world: Arc<World>,
}

/// Queues every aggregated role when any role changes.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let (to, roles) = (Arc::clone(queue), Arc::clone(&world.cluster_roles));
    world.cluster_roles.listen(move |_| {
        roles.all().iter().filter(|role| role.aggregation_rule.is_some()).for_each(|role| to.add(Key::of(&**role)));
    });
}

impl Aggregations {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let roles = &self.world.cluster_roles;
        let Some(role) = roles.get(&key).filter(|role| !is_deleted(&**role)) else { return Ok(None) };
        if role.aggregation_rule.is_none() {
            return Ok(None);
        }
        let rules = rules(&role, &roles.all());
        if rules == role.rules.clone().unwrap_or_default() {
            return Ok(None);
        }
        let mut applied = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": key.name}});
        if !rules.is_empty() {
            applied["rules"] = json!(rules);
        }
        let api: Api<ClusterRole> = Api::all(self.world.client.clone());
        let params = PatchParams::apply(MANAGER).force();
        let written = api.patch(&key.name, &params, &Patch::Apply(&applied)).await?;
        roles.has_seen(&written).await.map(|()| None)
    }
}

/// Each rule once, in the order of the names of the roles; `all` come in that order.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let selectors = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let selectors: Vec<_> = selectors.map(claim::selector).collect();
    let is_chosen = |other: &&Arc<ClusterRole>| {
        let labels = other.metadata.labels.as_ref();
        other.name_any() != role.name_any() && selectors.iter().any(|selector| claim::matches(selector, labels))
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in all.iter().filter(is_chosen).flat_map(|other| other.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<Value> = verbs.iter().map(|verb| json!({"verbs": [verb], "resources": ["pods"]})).collect();
        let role = json!({"metadata": {"name": name, "labels": {"in": label}}, "rules": rules,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"in": "view"}}, {"matchLabels": {"in": "edit"}}]}});
        Arc::new(serde_json::from_value(role).unwrap())
    }

    #[test]
    fn rules_of_chosen_roles_come_once() {
        let all = [role("a", "view", &["get"]), role("b", "edit", &["list", "get"]), role("c", "other", &["delete"])];
        let verbs =
            |name: &str| rules(&role(name, "view", &[]), &all).iter().map(|it| it.verbs.join("")).collect::<Vec<_>>();
        assert_eq!(verbs("sum"), ["get", "list"]);
        assert_eq!(verbs("a"), ["list", "get"]);
    }
}
