//! What every namespace has: a service account `default`, and the certificate that its pods trust the API by.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::apply::{self, Part};
use super::error::{has_cause, status_code};
use super::informer::{Cache, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;

const ACCOUNT: &str = "default";
pub(super) const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_NOTE: &str = "kubernetes.io/description";
const ROOT_CA_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

pub(super) struct Accounts {
    world: Arc<World>,
    ca_pem: String,
}

/// Queues namespaces by their name.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.namespaces.listen(move |change| {
        if let Some(namespace) = change.new.filter(|namespace| !is_deleted(&***namespace)) {
            to.add(Key::of(&**namespace));
        }
    });
    let to = Arc::clone(queue);
    world.accounts.listen(move |change| {
        for account in change.states().filter(|account| account.name_any() == ACCOUNT) {
            to.add(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    let to = Arc::clone(queue);
    world.root_cas.listen(move |change| {
        for map in change.states() {
            to.add(Key::new("", map.namespace().unwrap_or_default()));
        }
    });
}

impl Accounts {
    pub(super) fn new(world: Arc<World>, ca_pem: String) -> Self {
        Self { world, ca_pem }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(namespace) = self.world.namespaces.get(&key) else { return Ok(None) };
        if is_deleted(&*namespace) {
            return Ok(None);
        }
        let meta = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.name.clone()),
            ..ObjectMeta::default()
        };
        if self.world.accounts.get(&Key::new(key.name.clone(), ACCOUNT)).is_none() {
            let account = ServiceAccount { metadata: meta(ACCOUNT), ..ServiceAccount::default() };
            self.create(&self.world.accounts, &account).await?;
        }
        let data = BTreeMap::from([("ca.crt".to_owned(), self.ca_pem.clone())]);
        match self.world.root_cas.get(&Key::new(key.name.clone(), ROOT_CA)) {
            None => {
                let note = BTreeMap::from([(ROOT_CA_NOTE.to_owned(), ROOT_CA_TEXT.to_owned())]);
                let metadata = ObjectMeta { annotations: Some(note), ..meta(ROOT_CA) };
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                self.create(&self.world.root_cas, &map).await?;
            }
            Some(map) if map.data.as_ref() != Some(&data) => {
                let restored = ConfigMap { data: Some(data), ..(*map).clone() };
                let api = Api::namespaced(self.world.client.clone(), &key.name);
                apply::update(&api, &self.world.root_cas, Part::Main, &*map, &restored).await?;
            }
            Some(_) => {}
        }
        Ok(None)
    }

    async fn create<K>(&self, cache: &Cache<K>, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = Api::namespaced(self.world.client.clone(), &object.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), object).await {
            Ok(created) => cache.has_seen(&created).await,
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(()),
            // Somebody was faster; its echo is on the way.
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
