//! ControllerRevisions: what the pod template of a StatefulSet or a DaemonSet once was, numbered in the order of use.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_model::selector::Selector;

use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::error::status_code;
use super::informer::is_deleted;
use super::world::World;
use super::{Error, owner};
use crate::template;

/// The label of a revision that names its template.
const HASH: &str = "controller.kubernetes.io/hash";
/// The label of a pod that names its revision.
pub(super) const POD_REVISION: &str = "controller-revision-hash";
/// Names of one template that may be taken by others before a pass gives up.
const ATTEMPTS: usize = 8;

/// Which revision holds the present template.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    Keep(Arc<ControllerRevision>),
    /// An old template is in use again: its revision gets the newest number.
    Renumber(Arc<ControllerRevision>, i64),
    Create(i64),
}

/// An owner of revisions.
pub(super) trait Historian:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Metadata<Ty = ObjectMeta>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    fn template(&self) -> PodTemplateSpec;
    fn selector(&self) -> Selector;
    fn collisions(&self) -> i32;
    fn history_limit(&self) -> i32;
    /// Whether its revisions carry the label that its pods find them by.
    const LABELS_FOR_PODS: bool;
}

/// By number; of one number the older first.
pub(super) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by_key(|it| (it.revision, it.creation_timestamp().map(|time| time.0), it.name_any()));
}

/// `revisions` are sorted.
pub(super) fn choose(template: &PodTemplateSpec, revisions: &[Arc<ControllerRevision>]) -> Choice {
    let wanted = data(template);
    let equal = revisions.iter().rposition(|it| it.data.as_ref().is_some_and(|data| data.0 == wanted));
    let next = revisions.last().map_or(1, |newest| newest.revision + 1);
    match equal {
        Some(at) if at + 1 == revisions.len() => Choice::Keep(Arc::clone(&revisions[at])),
        Some(at) => Choice::Renumber(Arc::clone(&revisions[at]), next),
        None => Choice::Create(next),
    }
}

/// The patch that brings the template back: `kubectl rollout undo` sends it as it stands.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = apply::to_json(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

pub(super) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.as_ref()?.0.pointer("/spec/template")?.clone()).ok()
}

/// The oldest of those that nobody uses, as many as are beyond the limit. `revisions` are sorted.
pub(super) fn surplus(
    revisions: &[Arc<ControllerRevision>],
    live: &BTreeSet<String>,
    limit: i32,
) -> Vec<Arc<ControllerRevision>> {
    let unused: Vec<_> = revisions.iter().filter(|it| !live.contains(&it.name_any())).cloned().collect();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = unused.len().saturating_sub(limit);
    unused.into_iter().take(count).collect()
}

fn make<K: Historian>(owner: &K, number: i64, collisions: i32) -> ControllerRevision {
    let template = owner.template();
    let hash = template::digest(&template, (collisions > 0).then_some(collisions));
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    if K::LABELS_FOR_PODS {
        labels.insert(POD_REVISION.to_owned(), hash.clone());
    }
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: Metadata::metadata(owner).annotations.clone(),
            owner_references: Some(vec![owner::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data(&template))),
        revision: number,
    }
}

/// The revisions of an owner, after adopting those that a former owner left behind; sorted.
pub(super) async fn gather<K: Historian>(world: &World, owner: &K) -> Result<Vec<Arc<ControllerRevision>>, Error> {
    let namespace = owner.namespace().unwrap_or_default();
    let cache = &world.revisions;
    let mut candidates = cache.controlled_by(&owner.uid().unwrap_or_default());
    candidates.extend(cache.orphans(&namespace));
    let selector = owner.selector();
    let reference = owner::controlled_by(owner);
    let claimant = Claimant { reference, selector: &selector, is_deleted: is_deleted(owner) };
    let api = Api::namespaced(world.client.clone(), &namespace);
    let owners: Api<K> = Api::namespaced(world.client.clone(), &namespace);
    let mut revisions = claimant.claim(&api, cache, candidates, claim::is_there(&owners, owner)).await?;
    sort(&mut revisions);
    Ok(revisions)
}

/// The revision of the present template, with the number of names that others had taken already.
pub(super) async fn present<K: Historian>(
    world: &World,
    owner: &K,
    revisions: &[Arc<ControllerRevision>],
) -> Result<(Arc<ControllerRevision>, i32), Error> {
    let api: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &owner.namespace().unwrap_or_default());
    let collisions = owner.collisions();
    match choose(&owner.template(), revisions) {
        Choice::Keep(revision) => Ok((revision, collisions)),
        Choice::Renumber(revision, number) => {
            let renumbered = ControllerRevision { revision: number, ..(*revision).clone() };
            let written = apply::update(&api, &world.revisions, Part::Main, &*revision, &renumbered).await?;
            let written = written.ok_or(Error::Stale { what: "the revision" })?;
            Ok((Arc::new(written), collisions))
        }
        Choice::Create(number) => create(world, &api, owner, number).await,
    }
}

async fn create<K: Historian>(
    world: &World,
    api: &Api<ControllerRevision>,
    owner: &K,
    number: i64,
) -> Result<(Arc<ControllerRevision>, i32), Error> {
    let mut collisions = owner.collisions();
    for _ in 0..ATTEMPTS {
        let revision = make(owner, number, collisions);
        match api.create(&PostParams::default(), &revision).await {
            Ok(created) => {
                world.revisions.has_seen(&created).await?;
                return Ok((Arc::new(created), collisions));
            }
            Err(error) if status_code(&error) == Some(409) => {
                let taken = api.get(&revision.name_any()).await?;
                let is_ours = owner::controller(&taken.metadata).map(|it| &it.uid) == owner.uid().as_ref();
                if is_ours && taken.data == revision.data {
                    return Err(Error::Stale { what: "the revisions" });
                }
                collisions += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Stale { what: "the names of the new revision" })
}

/// Deletes what `surplus` found.
pub(super) async fn forget(world: &World, revisions: &[Arc<ControllerRevision>]) -> Result<(), Error> {
    for revision in revisions {
        let api: Api<ControllerRevision> =
            Api::namespaced(world.client.clone(), &revision.namespace().unwrap_or_default());
        apply::delete(&api, &world.revisions, &**revision).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": image}]}}))
        .unwrap()
    }

    fn revision(number: i64, image: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta { name: Some(format!("web-{image}")), ..ObjectMeta::default() },
            data: Some(RawExtension(data(&template(image)))),
            revision: number,
        })
    }

    fn check(image: &str, revisions: &[Arc<ControllerRevision>], expected: &str) {
        let choice = match choose(&template(image), revisions) {
            Choice::Keep(it) => format!("keep {}", it.revision),
            Choice::Renumber(it, number) => format!("{} becomes {number}", it.revision),
            Choice::Create(number) => format!("create {number}"),
        };
        assert_eq!(choice, expected);
    }

    #[test]
    fn each_template_has_one_revision_and_the_present_one_the_highest_number() {
        check("a", &[], "create 1");
        check("a", &[revision(1, "a")], "keep 1");
        check("b", &[revision(1, "a")], "create 2");
        check("a", &[revision(1, "a"), revision(2, "b")], "1 becomes 3");
        check("c", &[revision(2, "b"), revision(3, "a")], "create 4");
    }

    #[test]
    fn a_revision_gives_its_template_back() {
        assert_eq!(template_of(&revision(1, "a")), Some(template("a")));
    }

    #[test]
    fn the_oldest_unused_revisions_are_surplus() {
        let all = [revision(1, "a"), revision(2, "b"), revision(3, "c"), revision(4, "d")];
        let live = BTreeSet::from(["web-a".to_owned(), "web-d".to_owned()]);
        let names = |limit| surplus(&all, &live, limit).iter().map(|it| it.name_any()).collect::<Vec<_>>();
        assert_eq!(names(0), ["web-b", "web-c"]);
        assert_eq!(names(1), ["web-b"]);
        assert!(names(2).is_empty() && names(-1).is_empty());
    }
}
