//! Who belongs to whom: an owner adopts orphans that its selector matches and releases what it no longer matches.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_model::selector::Selector;

use super::apply::{self, Part};
use super::error::status_code;
use super::informer::{Cache, Change, Key, is_deleted};
use super::queue::Queue;
use super::world::World;
use super::{Error, owner};

/// The owner's part in it.
pub(crate) struct Claimant<'a> {
    pub(crate) reference: OwnerReference,
    pub(crate) selector: &'a Selector,
    pub(crate) is_deleted: bool,
}

/// What is to be done about one object.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Only the selector of an object that came through the API's validation; anything else matches nothing.
pub(crate) fn selector(selector: &LabelSelector) -> Selector {
    let everything_refused = || Selector::parse("!sluice.dev/none,sluice.dev/none").expect("a valid selector");
    Selector::from_object(&apply::to_json(selector)).unwrap_or_else(|_| everything_refused())
}

pub(crate) fn matches(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector.matches(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
}

/// Queues the owners of a kind that changed pods belong to, and those that could adopt them.
pub(super) fn listen_pods<K>(world: &World, queue: &Arc<Queue>, owners: &Arc<Cache<K>>, selector: fn(&K) -> Selector)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (to, owners) = (Arc::clone(queue), Arc::clone(owners));
    world.pods.listen(move |change: Change<'_, Pod>| {
        for pod in change.states() {
            let namespace = pod.namespace().unwrap_or_default();
            match owner::controller(&pod.metadata) {
                Some(owner) if owner.kind == K::kind(&()) => to.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let mut matching = owners.in_namespace(&namespace);
                    matching.retain(|owner| matches(&selector(owner), pod.metadata.labels.as_ref()));
                    matching.iter().for_each(|owner| to.add(Key::of(&**owner)));
                }
            }
        }
    });
}

impl Claimant<'_> {
    fn decide(&self, meta: &ObjectMeta) -> Claim {
        let matches = matches(self.selector, meta.labels.as_ref());
        match owner::controller(meta) {
            Some(controller) if controller.uid != self.reference.uid => Claim::Ignore,
            Some(_) if matches || self.is_deleted => Claim::Keep,
            Some(_) => Claim::Release,
            None if matches && !self.is_deleted && meta.deletion_timestamp.is_none() => Claim::Adopt,
            None => Claim::Ignore,
        }
    }

    /// Carries the claims out and returns what belongs to the owner afterwards.
    /// `is_there` asks the API itself, once, before the first adoption: the memory may be of a former owner's time.
    pub(crate) async fn claim<K>(
        &self,
        api: &Api<K>,
        cache: &Cache<K>,
        candidates: Vec<Arc<K>>,
        is_there: impl Future<Output = Result<bool, Error>>,
    ) -> Result<Vec<Arc<K>>, Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.claim_with(None, api, cache, candidates, is_there).await
    }

    /// The same; what is adopted gets this finalizer, what is released loses it.
    pub(crate) async fn claim_with<K>(
        &self,
        finalizer: Option<&str>,
        api: &Api<K>,
        cache: &Cache<K>,
        candidates: Vec<Arc<K>>,
        is_there: impl Future<Output = Result<bool, Error>>,
    ) -> Result<Vec<Arc<K>>, Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut claimed = Vec::new();
        let mut is_there = Some(is_there);
        for object in candidates {
            match self.decide(object.meta()) {
                Claim::Keep => claimed.push(object),
                Claim::Adopt => {
                    if let Some(asked) = is_there.take()
                        && !asked.await?
                    {
                        return Err(Error::Stale { what: "the owner" });
                    }
                    claimed.extend(self.adopt(finalizer, api, cache, &object).await?);
                }
                Claim::Release => self.release(finalizer, api, cache, &object).await?,
                Claim::Ignore => {}
            }
        }
        Ok(claimed)
    }

    async fn adopt<K>(
        &self,
        finalizer: Option<&str>,
        api: &Api<K>,
        cache: &Cache<K>,
        object: &K,
    ) -> Result<Option<Arc<K>>, Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut adopted = object.clone();
        adopted.meta_mut().owner_references.get_or_insert_default().push(self.reference.clone());
        if let Some(finalizer) = finalizer.filter(|it| !object.finalizers().iter().any(|has| has == it)) {
            adopted.finalizers_mut().push(finalizer.to_owned());
        }
        let written = apply::update(api, cache, Part::Main, object, &adopted).await?;
        Ok(written.filter(|written| !is_deleted(written)).map(Arc::new))
    }

    async fn release<K>(&self, finalizer: Option<&str>, api: &Api<K>, cache: &Cache<K>, object: &K) -> Result<(), Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut released = object.clone();
        let references = released.meta_mut().owner_references.get_or_insert_default();
        references.retain(|reference| reference.uid != self.reference.uid);
        if let Some(finalizer) = finalizer.filter(|it| object.finalizers().iter().any(|has| has == it)) {
            released.finalizers_mut().retain(|it| it != finalizer);
        }
        apply::update(api, cache, Part::Main, object, &released).await.map(drop)
    }
}

/// Whether the API still holds this very owner, and nobody is deleting it.
pub(crate) async fn is_there<K>(api: &Api<K>, owner: &K) -> Result<bool, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    match api.get(owner.meta().name.as_deref().unwrap_or_default()).await {
        Ok(live) => Ok(live.meta().uid == owner.meta().uid && !is_deleted(&live)),
        Err(error) if status_code(&error) == Some(404) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
