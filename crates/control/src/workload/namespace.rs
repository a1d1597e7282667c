//! Empties a namespace that is being deleted, kind by kind, and lets it go when nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::Error;
use super::apply::{self, Part};
use super::error::{message, status_code};
use super::informer::{Key, is_deleted};
use super::queue::{Queue, Wake};
use super::resources::Kind;
use super::time::time;
use super::world::World;

/// What was about to be created when the namespace was deleted still gets in, and is seen by the first pass.
const GRACE: Duration = Duration::from_secs(5);
/// How long until what has finalizers or runs on for its grace period is looked at again: a quarter of the time that
/// has passed, within these bounds.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(10);
const FINALIZER: &str = "kubernetes";

pub(super) struct Namespaces {
    world: Arc<World>,
    kinds: watch::Receiver<Vec<Kind>>,
}

pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.namespaces.listen(move |change| {
        if let Some(namespace) = change.new.filter(|namespace| is_deleted(&***namespace)) {
            to.add(Key::of(&**namespace));
        }
    });
}

/// What one look at the content found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    /// Objects left, by kind.
    remaining: BTreeMap<String, usize>,
    /// Objects held, by finalizer.
    finalizers: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Namespaces {
    pub(super) fn new(world: Arc<World>, kinds: watch::Receiver<Vec<Kind>>) -> Self {
        Self { world, kinds }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(namespace) = self.world.namespaces.get(&key) else { return Ok(None) };
        let Some(deleted_at) = namespace.metadata.deletion_timestamp.clone() else { return Ok(None) };
        if !finalizers(&namespace).iter().any(|it| it == FINALIZER) {
            return Ok(None);
        }
        let passed = Duration::try_from(Timestamp::now().duration_since(deleted_at.0)).unwrap_or_default();
        if passed < GRACE {
            return Ok(Some(GRACE - passed));
        }
        let content = self.empty(&key.name).await?;
        let namespace = self.report(&namespace, &content).await?;
        if content == Content::default() {
            self.finalize(&namespace).await?;
            return Ok(None);
        }
        Ok(Some((passed / 4).clamp(SOONEST, LATEST)))
    }

    /// Deletes everything that has not been told to go, and counts what is left.
    async fn empty(&self, namespace: &str) -> Result<Content, Error> {
        let kinds: Vec<_> = self.kinds.borrow().iter().filter(|kind| kind.is_namespaced).cloned().collect();
        let mut content = Content::default();
        for kind in kinds {
            let api = kind.api(&self.world.client, namespace);
            let objects = match api.list_metadata(&ListParams::default()).await {
                Ok(objects) => objects,
                Err(error) if matches!(status_code(&error), Some(404 | 405)) => continue,
                Err(error) => return Err(error.into()),
            };
            for object in objects.items {
                let params = DeleteParams::background();
                let gone = match is_deleted(&object) {
                    true => false,
                    false => match api.delete(&object.name_any(), &params).await {
                        Ok(answer) => answer.right().is_some(),
                        Err(error) if status_code(&error) == Some(404) => true,
                        Err(error) => {
                            content.failures.push(message(&error));
                            false
                        }
                    },
                };
                if !gone && api.get_metadata_opt(&object.name_any()).await?.is_some() {
                    *content.remaining.entry(kind.plural()).or_default() += 1;
                    for finalizer in object.finalizers() {
                        *content.finalizers.entry(finalizer.clone()).or_default() += 1;
                    }
                }
            }
        }
        Ok(content)
    }

    async fn report(&self, namespace: &Arc<Namespace>, content: &Content) -> Result<Arc<Namespace>, Error> {
        let mut reported = (**namespace).clone();
        let status = reported.status.get_or_insert_default();
        let before = status.conditions.take().unwrap_or_default();
        status.conditions = Some(conditions(content, &before, Timestamp::now()));
        let api: Api<Namespace> = Api::all(self.world.client.clone());
        let written = apply::update(&api, &self.world.namespaces, Part::Status, &**namespace, &reported).await?;
        Ok(written.map_or_else(|| Arc::clone(namespace), Arc::new))
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let name = namespace.name_any();
        let left: Vec<_> = finalizers(namespace).into_iter().filter(|it| it != FINALIZER).collect();
        let body = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": namespace.metadata,
            "spec": {"finalizers": left},
            "status": namespace.status,
        });
        let request = Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .expect("names of objects make a path");
        self.world.client.request::<Namespace>(request).await?;
        Ok(())
    }
}

fn finalizers(namespace: &Namespace) -> Vec<String> {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default()
}

fn conditions(content: &Content, before: &[NamespaceCondition], now: Timestamp) -> Vec<NamespaceCondition> {
    let list = |counts: &BTreeMap<String, usize>, of: &str| {
        let parts: Vec<_> =
            counts.iter().map(|(name, count)| format!("{name}{of}{count} resource instances")).collect();
        parts.join(", ")
    };
    let failed = "Failed to delete all resource types, 1 remaining: ".to_owned() + &content.failures.join(", ");
    let remaining = format!("Some resources are remaining: {}", list(&content.remaining, ". has "));
    let held = format!("Some content in the namespace has finalizers remaining: {}", list(&content.finalizers, " in "));
    let rows = [
        ("NamespaceDeletionDiscoveryFailure", None, "ResourcesDiscovered", "All resources successfully discovered"),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            (!content.failures.is_empty()).then_some(("ContentDeletionFailed", failed)),
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            (!content.remaining.is_empty()).then_some(("SomeResourcesRemain", remaining)),
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            (!content.finalizers.is_empty()).then_some(("SomeFinalizersRemain", held)),
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    rows.into_iter()
        .map(|(kind, trouble, fine_reason, fine_message)| {
            let status = if trouble.is_some() { "True" } else { "False" };
            let (reason, message) = trouble.unwrap_or((fine_reason, fine_message.to_owned()));
            let standing = before.iter().find(|it| it.type_ == kind && it.status == status);
            let since = standing.and_then(|it| it.last_transition_time.clone());
            NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: since.or_else(|| Some(time(now))),
            }
        })
        .collect()
}
