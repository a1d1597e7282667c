//! Where a Service leads: its pods as EndpointSlices, which the gateway routes by, and as Endpoints, which old clients
//! read. Endpoints made by hand for a Service without selector become slices, too.

mod backend;
mod mirror;
mod slices;
mod subsets;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_model::selector::Selector;

use self::backend::Backend;
use self::slices::Changes;
use super::apply::{self, Part};
use super::error::has_cause;
use super::informer::{Cache, Change, Key};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, claim, pod};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) struct ServiceEndpoints {
    world: Arc<World>,
    gone: Arc<Gone>,
}

/// Services that were deleted: their Endpoints die with them, while Endpoints that came before their Service live.
#[derive(Debug, Default)]
pub(super) struct Gone(Mutex<HashSet<Key>>);

impl Gone {
    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues the Services that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) -> Arc<Gone> {
    let gone = Arc::new(Gone::default());
    let (to, deleted) = (Arc::clone(queue), Arc::clone(&gone));
    world.services.listen(move |change: Change<'_, Service>| {
        for service in change.states() {
            if change.new.is_none() {
                deleted.lock().insert(Key::of(&**service));
            }
            to.add(Key::of(&**service));
        }
    });
    let (to, services) = (Arc::clone(queue), Arc::clone(&world.services));
    world.pods.listen(move |change: Change<'_, Pod>| {
        let matters = |pod: &Arc<Pod>| {
            let spec = pod.spec.as_ref();
            let status = pod.status.clone().unwrap_or_default();
            let labels = pod.metadata.labels.clone();
            let node = spec.and_then(|spec| spec.node_name.clone());
            let life = (pod::is_finished(pod), pod::is_ready(pod), pod.metadata.deletion_timestamp.clone());
            (labels, node, status.pod_ip, status.pod_ips, life)
        };
        if change.old.map(matters) == change.new.map(matters) {
            return;
        }
        let namespace = change.states().next().and_then(|pod| pod.namespace()).unwrap_or_default();
        for service in services.in_namespace(&namespace) {
            let Some(selector) = selector(&service) else { continue };
            if change.states().any(|pod| claim::matches(&selector, pod.metadata.labels.as_ref())) {
                to.add(Key::of(&*service));
            }
        }
    });
    let to = Arc::clone(queue);
    world.slices.listen(move |change: Change<'_, EndpointSlice>| {
        let ours = change.states().filter(|slice| is_managed(slice, CONTROLLER) || is_managed(slice, MIRROR));
        for slice in ours {
            if let Some(service) = slice.labels().get(SERVICE_NAME) {
                to.add(Key::new(slice.namespace().unwrap_or_default(), service));
            }
        }
    });
    let to = Arc::clone(queue);
    world.endpoints.listen(move |change| change.states().for_each(|it| to.add(Key::of(&**it))));
    let (to, services) = (Arc::clone(queue), Arc::clone(&world.services));
    world.nodes.listen(move |change: Change<'_, Node>| {
        let zone = |node: &Arc<Node>| node.labels().get(ZONE).cloned();
        if change.old.map(zone) != change.new.map(zone) {
            services.all().iter().for_each(|service| to.add(Key::of(&**service)));
        }
    });
    gone
}

/// None where somebody else says where the Service leads.
fn selector(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| Selector::from_map(&apply::to_json(selector)))
}

fn is_managed(slice: &EndpointSlice, by: &str) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == by)
}

impl ServiceEndpoints {
    pub(super) fn new(world: Arc<World>, gone: Arc<Gone>) -> Self {
        Self { world, gone }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let service = self.world.services.get(&key);
        let endpoints = self.world.endpoints.get(&key);
        let Some(service) = service else { return self.clear(&key, endpoints).await };
        let slices = self.slices_of(&key);
        let managed = |by: &str| slices.iter().filter(|slice| is_managed(slice, by)).cloned().collect::<Vec<_>>();
        let Some(selector) = selector(&service) else {
            let wanted = endpoints.as_deref().map(mirror::slices).unwrap_or_default();
            return self.apply(&key, slices::changes(&managed(MIRROR), wanted)).await;
        };
        let backends = self.gather(&service, &selector, &key.namespace);
        tracing::debug!(%key, backends = backends.len(), "Endpoints decided");
        self.apply(&key, slices::decide(&service, &backends, &managed(CONTROLLER))).await?;
        self.apply(&key, slices::changes(&managed(MIRROR), Vec::new())).await?;
        self.apply_endpoints(&key, &service, &backends, endpoints).await?;
        Ok(None)
    }

    fn slices_of(&self, key: &Key) -> Vec<Arc<EndpointSlice>> {
        let slices = self.world.slices.in_namespace(&key.namespace);
        slices.into_iter().filter(|slice| slice.labels().get(SERVICE_NAME) == Some(&key.name)).collect()
    }

    fn gather(&self, service: &Service, selector: &Selector, namespace: &str) -> Vec<Backend> {
        let pods = self.world.pods.in_namespace(namespace);
        let pods = pods.into_iter().filter(|pod| claim::matches(selector, pod.metadata.labels.as_ref()));
        pods.filter_map(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            let node = self.world.nodes.get(&Key::new("", node));
            Backend::of(service, &pod, node.as_deref())
        })
        .collect()
    }

    /// What an absent Service leaves behind; its slices are garbage by their owner.
    async fn clear(&self, key: &Key, endpoints: Option<Arc<Endpoints>>) -> Result<Wake, Error> {
        let is_gone = self.gone.lock().contains(key);
        if let Some(endpoints) = endpoints.filter(|_| is_gone) {
            apply::delete(&self.api(&key.namespace), &self.world.endpoints, &*endpoints).await?;
        }
        self.gone.lock().remove(key);
        Ok(None)
    }

    async fn apply(&self, key: &Key, changes: Changes) -> Result<Wake, Error> {
        let cache = &self.world.slices;
        for (before, after) in &changes.update {
            apply::update(&self.api(&key.namespace), cache, Part::Main, &**before, after).await?;
        }
        for slice in &changes.create {
            self.create(cache, slice, &key.namespace).await?;
        }
        for slice in &changes.delete {
            apply::delete(&self.api(&key.namespace), cache, &**slice).await?;
        }
        Ok(None)
    }

    async fn apply_endpoints(
        &self,
        key: &Key,
        service: &Service,
        backends: &[Backend],
        before: Option<Arc<Endpoints>>,
    ) -> Result<(), Error> {
        let wanted = subsets::endpoints(service, backends);
        match before {
            None => self.create(&self.world.endpoints, &wanted, &key.namespace).await,
            Some(before) => {
                let after = Endpoints {
                    metadata: ObjectMeta { labels: wanted.metadata.labels, ..before.metadata.clone() },
                    subsets: wanted.subsets,
                };
                let api = self.api(&key.namespace);
                apply::update(&api, &self.world.endpoints, Part::Main, &*before, &after).await.map(drop)
            }
        }
    }

    async fn create<K: Owned>(&self, cache: &Cache<K>, object: &K, namespace: &str) -> Result<(), Error> {
        match self.api(namespace).create(&PostParams::default(), object).await {
            Ok(created) => cache.has_seen(&created).await,
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn api<K: Owned>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.world.client.clone(), namespace)
    }
}

/// What this controller writes.
trait Owned:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Owned for EndpointSlice {}
impl Owned for Endpoints {}
