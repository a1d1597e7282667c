//! Revisions: which ReplicaSet has the present template, what its annotations remember, how a new one is named.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::super::owner;
use super::sizes::Sizes;
use crate::template::{self, HASH, REVISION};

const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// The history annotation forgets its oldest numbers beyond this.
const HISTORY_CHARS: usize = 2000;

pub(super) fn number(set: &ReplicaSet) -> i64 {
    template::number(set).unwrap_or(0)
}

pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED)?.parse().ok()
}

pub(super) fn most(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX)?.parse().ok()
}

/// The oldest set with the Deployment's template.
pub(super) fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let wanted = &deployment.spec.as_ref()?.template;
    sets.iter().position(|set| template::is_of(set, wanted))
}

/// Brings a set that has the present template up to date with its Deployment.
pub(super) fn annotate_new(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) {
    copy_annotations(deployment, set);
    let annotations = set.metadata.annotations.get_or_insert_default();
    let before = annotations.get(REVISION).cloned();
    let Ok(number) = before.as_deref().unwrap_or("0").parse::<i64>() else { return };
    if number >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(before) = before {
        let history = annotations.entry(HISTORY.to_owned()).or_default();
        *history = remembered(history, &before);
    }
}

fn remembered(history: &str, number: &str) -> String {
    let mut numbers: Vec<&str> = history.split(',').filter(|number| !number.is_empty()).collect();
    numbers.push(number);
    while numbers.len() > 1 && numbers.iter().map(|number| number.len() + 1).sum::<usize>() > HISTORY_CHARS {
        numbers.remove(0);
    }
    numbers.join(",")
}

fn copy_annotations(deployment: &Deployment, set: &mut ReplicaSet) {
    let own = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, ROLLBACK_TO];
    let copied = deployment.annotations().iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let copied: Vec<_> = copied.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !copied.is_empty() {
        set.metadata.annotations.get_or_insert_default().extend(copied);
    }
}

pub(super) fn annotate_sizes(set: &mut ReplicaSet, sizes: Sizes) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), sizes.wanted.to_string());
    annotations.insert(MAX.to_owned(), sizes.most().to_string());
}

/// A ReplicaSet for the present template, without pods yet.
pub(super) fn make_new(deployment: &Deployment, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template::digest(&spec.template, collisions);
    let label = |labels: &mut Option<BTreeMap<String, String>>| {
        labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    };
    let (mut template, mut selector) = (spec.template, spec.selector);
    label(&mut template.metadata.get_or_insert_default().labels);
    label(&mut selector.match_labels);
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
            owner_references: Some(vec![owner::controlled_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate_new(deployment, &mut set, revision);
    annotate_sizes(&mut set, Sizes::of(deployment));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_forgets_its_oldest_numbers() {
        assert_eq!(remembered("", "1"), "1");
        assert_eq!(remembered("1,4", "7"), "1,4,7");
        let long = vec!["123"; 600].join(",");
        assert!(remembered(&long, "9").len() < HISTORY_CHARS);
        assert!(remembered(&long, "9").ends_with(",9"));
    }
}
