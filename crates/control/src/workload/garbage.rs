//! Deletes what nobody owns any more, in the background or before its owner, or sets it free.

mod decide;
mod graph;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::decide::{Decision, Ownership, Propagation, decide};
use self::graph::{Graph, Node, ORPHAN};
use super::Error;
use super::error::status_code;
use super::events::{Events, Severity};
use super::informer::{Backoff, Key};
use super::queue::{Queue, Wake};
use super::resources::Kind;

const COMPONENT: &str = "garbage-collector-controller";

pub(super) struct Garbage {
    client: Client,
    events: Events,
    graph: Mutex<Graph>,
    queue: Arc<Queue>,
    kinds: watch::Receiver<Vec<Kind>>,
    /// Told of the namespace of every object that is gone.
    on_loss: Box<dyn Fn(&str) + Send + Sync>,
}

impl Garbage {
    pub(super) fn new(
        client: Client,
        events: &Events,
        queue: Arc<Queue>,
        kinds: watch::Receiver<Vec<Kind>>,
        on_loss: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let events = events.of(COMPONENT);
        Self { client, events, graph: Mutex::default(), queue, kinds, on_loss: Box::new(on_loss) }
    }

    /// Watches the metadata of every kind, until it is dropped.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut kinds = self.kinds.clone();
        let mut watches: Vec<(Kind, tokio::task::AbortHandle)> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let served = kinds.borrow_and_update().clone();
            watches.retain(|(kind, watch)| {
                let stays = served.contains(kind);
                if !stays {
                    watch.abort();
                    self.replace(kind, Vec::new());
                }
                stays
            });
            for kind in served {
                if !watches.iter().any(|(watched, _)| *watched == kind) {
                    let watch = tasks.spawn(Arc::clone(&self).follow_kind(kind.clone()));
                    watches.push((kind, watch));
                }
            }
            if kinds.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_kind(self: Arc<Self>, kind: Kind) {
        let config = watcher::Config::default();
        let mut stream = std::pin::pin!(watcher(kind.metadata_api(&self.client), config));
        let mut backoff = Backoff::default();
        let mut listed = Vec::new();
        while let Some(event) = stream.next().await {
            if matches!(event, Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_))) {
                backoff.reset();
            }
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.extend(Node::new(&kind, &object.metadata)),
                Ok(watcher::Event::InitDone) => self.replace(&kind, std::mem::take(&mut listed)),
                Ok(watcher::Event::Apply(object)) => {
                    let next = Node::new(&kind, &object.metadata).map(|node| self.graph().put(node));
                    self.add_all(next.unwrap_or_default());
                }
                Ok(watcher::Event::Delete(object)) => {
                    let next = self.graph().remove(&object.uid().unwrap_or_default());
                    self.add_all(next);
                    (self.on_loss)(&object.namespace().unwrap_or_default());
                }
                Err(error) => {
                    tracing::debug!(%error, kind = kind.plural(), "Watch interrupted");
                    backoff.pause().await;
                }
            }
        }
    }

    fn replace(&self, kind: &Kind, listed: Vec<Node>) {
        let there: HashSet<_> = listed.iter().map(|node| node.uid.clone()).collect();
        let mut graph = self.graph();
        let mut next = Vec::new();
        for uid in graph.uids_of(kind).into_iter().filter(|uid| !there.contains(uid)) {
            next.extend(graph.remove(&uid));
        }
        for node in listed {
            next.extend(graph.put(node));
        }
        drop(graph);
        self.add_all(next);
    }

    fn add_all(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(Key::new("", uid));
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key's name is a uid.
    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(node) = self.graph().get(&key.name) else { return Ok(None) };
        let dependents = self.graph().dependents(&node.uid);
        let mut owners = Vec::with_capacity(node.owners.len());
        if !node.is_deleted {
            for owner in &node.owners {
                owners.push(self.look_up(owner, &node).await?);
            }
        }
        let decision = decide(&node, &owners, dependents);
        if decision != Decision::Nothing {
            tracing::debug!(kind = node.kind.plural(), key = %node.key, %decision, "Garbage decided");
        }
        self.apply(&node, decision).await?;
        Ok(None)
    }

    /// Memory may lag behind or know another object by this uid: absence is asked for.
    async fn look_up(&self, owner: &OwnerReference, of: &Node) -> Result<Ownership, Error> {
        if let Some(known) = self.graph().owner(owner, of) {
            return Ok(if known.waits_for_dependents() { Ownership::Waiting } else { Ownership::Solid });
        }
        let Some(kind) = self.kind_of(owner) else {
            return Err(Error::Partial { message: format!("nothing serves owners of kind `{}`", owner.kind) });
        };
        if kind.is_namespaced && of.key.namespace.is_empty() {
            self.warn_of_namespace(owner, of);
            return Ok(Ownership::Solid);
        }
        let live = kind.api(&self.client, &of.key.namespace).get_metadata_opt(&owner.name).await?;
        let is_it = live.is_some_and(|live| live.metadata.uid.as_deref() == Some(&owner.uid));
        if is_it {
            return Ok(Ownership::Solid);
        }
        let elsewhere = self.graph().get(&owner.uid).is_some_and(|it| it.key.namespace != of.key.namespace);
        if kind.is_namespaced && elsewhere {
            self.warn_of_namespace(owner, of);
        }
        Ok(Ownership::Absent)
    }

    fn kind_of(&self, owner: &OwnerReference) -> Option<Kind> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.borrow();
        kinds.iter().find(|kind| kind.resource.kind == owner.kind && kind.resource.group == group).cloned()
    }

    fn warn_of_namespace(&self, owner: &OwnerReference, of: &Node) {
        let OwnerReference { api_version, kind, name, uid, .. } = owner;
        let namespace = &of.key.namespace;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] \
             does not exist in namespace \"{namespace}\""
        );
        let about = ObjectReference {
            api_version: Some(of.kind.resource.api_version.clone()),
            kind: Some(of.kind.resource.kind.clone()),
            namespace: Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(of.key.name.clone()),
            uid: Some(of.uid.clone()),
            ..ObjectReference::default()
        };
        self.events.note(about, Severity::Warning, "OwnerRefInvalidNamespace", message);
    }

    async fn apply(&self, node: &Node, decision: Decision) -> Result<(), Error> {
        match decision {
            Decision::Nothing => Ok(()),
            Decision::Disown(gone) => self.disown(node, &gone).await,
            Decision::Delete(propagation) => self.delete(node, propagation).await,
            Decision::Finish(finalizer) => self.finish(node, finalizer).await,
            Decision::Orphan(dependents) => {
                for dependent in &dependents {
                    self.disown(dependent, std::slice::from_ref(&node.uid)).await?;
                }
                self.finish(node, ORPHAN).await
            }
        }
    }

    async fn disown(&self, node: &Node, gone: &[String]) -> Result<(), Error> {
        let left: Vec<_> = node.owners.iter().filter(|owner| !gone.contains(&owner.uid)).collect();
        let left = if left.is_empty() { json!(null) } else { json!(left) };
        self.patch(node, json!({"ownerReferences": left})).await
    }

    async fn finish(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let left: Vec<_> = node.finalizers.iter().filter(|it| *it != finalizer).collect();
        let left = if left.is_empty() { json!(null) } else { json!(left) };
        self.patch(node, json!({"finalizers": left})).await
    }

    async fn patch(&self, node: &Node, mut metadata: serde_json::Value) -> Result<(), Error> {
        metadata["uid"] = json!(node.uid);
        metadata["resourceVersion"] = json!(node.resource_version);
        let api = node.kind.api(&self.client, &node.key.namespace);
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api.patch_metadata(&node.key.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, node: &Node, propagation: Propagation) -> Result<(), Error> {
        let policy = match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Orphan => PropagationPolicy::Orphan,
        };
        let same = Preconditions { uid: Some(node.uid.clone()), resource_version: Some(node.resource_version.clone()) };
        let params =
            DeleteParams { propagation_policy: Some(policy), preconditions: Some(same), ..DeleteParams::default() };
        let api: kube::Api<DynamicObject> = node.kind.api(&self.client, &node.key.namespace);
        match api.delete(&node.key.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
