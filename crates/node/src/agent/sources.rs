//! What pods refer to: ConfigMaps, Secrets and claims, fetched when needed, and word of their changes.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, Volume,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::broadcast;

/// The ConfigMaps, Secrets and volumes of claims of one namespace that one pod names, as they are now.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    namespace: String,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    /// By claim.
    volumes: BTreeMap<String, PersistentVolume>,
    services: BTreeMap<String, Service>,
}

/// Something that pods may refer to is new, different or gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    ConfigMap {
        namespace: String,
        name: String,
    },
    Secret {
        namespace: String,
        name: String,
    },
    /// A PersistentVolumeClaim.
    Claim {
        namespace: String,
        name: String,
    },
    /// Some ProcessImage.
    Image,
}

impl Sources {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Reads all that is referred to; what does not exist is simply not there.
    pub(super) async fn fetch(
        client: &Client,
        namespace: &str,
        wanted: &BTreeSet<Reference>,
    ) -> Result<Self, kube::Error> {
        let mut sources = Self::new(namespace);
        let config_maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        for reference in wanted {
            match reference {
                Reference::ConfigMap { name, .. } => {
                    config_maps.get_opt(name).await?.into_iter().for_each(|map| sources.put_config_map(map));
                }
                Reference::Secret { name, .. } => {
                    secrets.get_opt(name).await?.into_iter().for_each(|secret| sources.put_secret(secret));
                }
                Reference::Claim { name, .. } => {
                    let volume = volume_of(client, namespace, name).await?;
                    volume.into_iter().for_each(|volume| sources.put_volume(name, volume));
                }
                Reference::Image => {}
            }
        }
        Ok(sources)
    }

    /// Reads the services that a pod is told of: those of its namespace, unless it wants none, and the API itself.
    pub(super) async fn fetch_services(&mut self, client: &Client, links: bool) -> Result<(), kube::Error> {
        let api = Api::<Service>::namespaced(client.clone(), "default").get_opt("kubernetes").await?;
        let linked = match links {
            true => {
                Api::<Service>::namespaced(client.clone(), &self.namespace).list(&ListParams::default()).await?.items
            }
            false => Vec::new(),
        };
        self.services = api.into_iter().chain(linked).map(|service| (service.name_any(), service)).collect();
        Ok(())
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    pub(super) fn put_config_map(&mut self, map: ConfigMap) {
        self.config_maps.insert(map.name_any(), map);
    }

    pub(super) fn put_secret(&mut self, secret: Secret) {
        self.secrets.insert(secret.name_any(), secret);
    }

    pub(super) fn put_volume(&mut self, claim: &str, volume: PersistentVolume) {
        self.volumes.insert(claim.to_owned(), volume);
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)
    }

    pub(super) fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// What the claim of this name is bound to.
    pub(super) fn volume(&self, claim: &str) -> Option<&PersistentVolume> {
        self.volumes.get(claim)
    }
}

/// What a claim is bound to.
async fn volume_of(client: &Client, namespace: &str, claim: &str) -> Result<Option<PersistentVolume>, kube::Error> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let claim = claims.get_opt(claim).await?;
    let is_bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    };
    match claim.filter(is_bound).and_then(|claim| claim.spec?.volume_name) {
        Some(name) => Api::<PersistentVolume>::all(client.clone()).get_opt(&name).await,
        None => Ok(None),
    }
}

/// Everything a pod refers to, in environments and volumes.
pub(super) fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = Found { namespace: pod.namespace().unwrap_or_default(), references: BTreeSet::new() };
    let Some(spec) = &pod.spec else { return found.references };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .for_each(|container| found.container(container));
    spec.volumes.iter().flatten().for_each(|volume| found.volume(volume));
    found.references
}

struct Found {
    namespace: String,
    references: BTreeSet<Reference>,
}

impl Found {
    fn config_map(&mut self, name: &str) {
        self.references.insert(Reference::ConfigMap { namespace: self.namespace.clone(), name: name.to_owned() });
    }

    fn secret(&mut self, name: &str) {
        self.references.insert(Reference::Secret { namespace: self.namespace.clone(), name: name.to_owned() });
    }

    fn container(&mut self, container: &Container) {
        for from in container.env_from.iter().flatten() {
            from.config_map_ref.iter().for_each(|reference| self.config_map(&reference.name));
            from.secret_ref.iter().for_each(|reference| self.secret(&reference.name));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            from.config_map_key_ref.iter().for_each(|reference| self.config_map(&reference.name));
            from.secret_key_ref.iter().for_each(|reference| self.secret(&reference.name));
        }
    }

    fn volume(&mut self, volume: &Volume) {
        if let Some(claim) = &volume.persistent_volume_claim {
            let name = claim.claim_name.clone();
            self.references.insert(Reference::Claim { namespace: self.namespace.clone(), name });
        }
        volume.config_map.iter().for_each(|source| self.config_map(&source.name));
        volume.secret.iter().filter_map(|source| source.secret_name.as_ref()).for_each(|name| self.secret(name));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            source.config_map.iter().for_each(|source| self.config_map(&source.name));
            source.secret.iter().for_each(|source| self.secret(&source.name));
        }
    }
}

/// Tells every pod of changed ConfigMaps and Secrets, until nobody listens any more.
pub(super) async fn announce_changes(client: Client, changes: broadcast::Sender<Reference>) {
    let config_maps = watcher(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .filter_map(|found| async { found.ok() })
        .map(|map| Reference::ConfigMap { namespace: map.namespace().unwrap_or_default(), name: map.name_any() });
    let secrets = watcher(Api::<Secret>::all(client), watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .filter_map(|found| async { found.ok() })
        .map(|secret| Reference::Secret { namespace: secret.namespace().unwrap_or_default(), name: secret.name_any() });
    let mut all = std::pin::pin!(futures::stream::select(config_maps, secrets));
    while let Some(reference) = all.next().await {
        // Without a pod nobody listens, and that is no reason to stop.
        let _listeners = changes.send(reference);
    }
}
