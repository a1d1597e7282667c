//! What the API holds of one kind, kept in memory by a watch, and who wants to know of changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Error;
use super::error::status_code;

/// An own write that does not come back by then was lost with its watch; the next pass starts from what is known.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a watch waits before it is tried again: longer each time until it has brought something. (The watcher's own
/// back-off starts over with each attempt to list.)
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LAST: Duration = Duration::from_secs(2);

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) async fn pause(&mut self) {
        let pause = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LAST);
        self.failures += 1;
        tokio::time::sleep(pause).await;
    }
}

/// Namespace (empty for the cluster) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What happened to one object: created without `old`, deleted without `new`.
#[derive(Debug)]
pub(crate) struct Change<'a, K> {
    pub(crate) old: Option<&'a Arc<K>>,
    pub(crate) new: Option<&'a Arc<K>>,
}

impl<'a, K> Change<'a, K> {
    /// Each state of the object that the change concerns.
    pub(crate) fn states(&self) -> impl Iterator<Item = &'a Arc<K>> {
        self.old.into_iter().chain(self.new)
    }
}

type Listener<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    synced: bool,
    newest: u64,
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    by_controller: HashMap<Controller, HashSet<Key>>,
}

/// Who controls an object: an owner's uid, or nobody in this namespace.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Controller {
    Uid(String),
    Nobody { namespace: String },
}

impl<K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cache<K> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(State { objects: BTreeMap::new(), by_controller: HashMap::new() }),
            listeners: RwLock::default(),
            progress: watch::Sender::default(),
        })
    }

    /// Calls this with every change from now on, on the watching task: it only queues keys.
    pub(crate) fn listen(&self, listener: impl Fn(Change<'_, K>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Follows the API until it is dropped.
    pub(crate) async fn follow(self: Arc<Self>, api: Api<K>, config: watcher::Config) {
        let mut stream = std::pin::pin!(watcher(api, config));
        let mut backoff = Backoff::default();
        let mut listed = Vec::new();
        while let Some(event) = stream.next().await {
            if matches!(event, Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_))) {
                backoff.reset();
            }
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.push(object),
                Ok(watcher::Event::InitDone) => self.replace(std::mem::take(&mut listed)),
                Ok(watcher::Event::Apply(object)) => self.put(object),
                Ok(watcher::Event::Delete(object)) => self.remove(&object),
                Err(watcher::Error::InitialListFailed(error)) if status_code(&error) == Some(404) => {
                    // The kind is not defined, so there is nothing of it.
                    self.replace(Vec::new());
                    backoff.pause().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "Watch interrupted");
                    backoff.pause().await;
                }
            }
        }
    }

    /// Follows every object of the kind, in all namespaces, on a task of its own.
    pub(crate) fn follow_all(self: &Arc<Self>, client: &Client, tasks: &mut JoinSet<()>)
    where
        K: Resource<DynamicType: Default>,
    {
        let config = watcher::Config::default().streaming_lists();
        tasks.spawn(Arc::clone(self).follow(Api::all(client.clone()), config));
    }

    pub(crate) async fn synced(&self) {
        // The sender lives as long as we do.
        let _ = self.progress.subscribe().wait_for(|progress| progress.synced).await;
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read(|state| state.objects.get(key).cloned())
    }

    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read(|state| state.objects.values().cloned().collect())
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|state| {
            let from = Key::new(namespace, "");
            let objects = state.objects.range(from..).take_while(|(key, _)| key.namespace == namespace);
            objects.map(|(_, object)| Arc::clone(object)).collect()
        })
    }

    /// What this owner controls.
    pub(crate) fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.read(|state| state.of_controller(&Controller::Uid(uid.to_owned())))
    }

    /// What nobody controls.
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|state| state.of_controller(&Controller::Nobody { namespace: namespace.to_owned() }))
    }

    /// Returns once a write that was answered with this object has come back through the watch.
    pub(crate) async fn has_seen(&self, written: &K) -> Result<(), Error> {
        let revision = revision(written);
        self.until(|_, progress| progress.newest >= revision).await
    }

    /// Returns once the object is gone, or is seen to be going.
    pub(crate) async fn has_lost(&self, key: &Key, uid: &str) -> Result<(), Error> {
        let is_going = |object: &Arc<K>| object.meta().uid.as_deref() != Some(uid) || is_deleted(&**object);
        self.until(|state, _| state.objects.get(key).is_none_or(is_going)).await
    }

    async fn until(&self, holds: impl Fn(&State<K>, Progress) -> bool) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let seen = progress.wait_for(|progress| self.read(|state| holds(state, *progress)));
        match tokio::time::timeout(ECHO_TIMEOUT, seen).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Unseen { waited: ECHO_TIMEOUT }),
        }
    }

    fn replace(&self, listed: Vec<K>) {
        let listed: BTreeMap<Key, Arc<K>> =
            listed.into_iter().map(|object| (Key::of(&object), Arc::new(object))).collect();
        let newest = listed.values().map(|object| revision(&**object)).max().unwrap_or(0);
        let gone = self
            .read(|state| state.objects.keys().filter(|key| !listed.contains_key(key)).cloned().collect::<Vec<_>>());
        for key in gone {
            self.update(key, None);
        }
        for (key, object) in listed {
            self.update(key, Some(&object));
        }
        self.progress.send_modify(|progress| {
            progress.synced = true;
            progress.newest = progress.newest.max(newest);
        });
    }

    fn put(&self, object: K) {
        let revision = revision(&object);
        self.update(Key::of(&object), Some(&Arc::new(object)));
        self.progress.send_modify(|progress| progress.newest = progress.newest.max(revision));
    }

    fn remove(&self, object: &K) {
        self.update(Key::of(object), None);
        self.progress.send_modify(|progress| progress.newest = progress.newest.max(revision(object)));
    }

    fn update(&self, key: Key, new: Option<&Arc<K>>) {
        let old = self.state.write().unwrap_or_else(PoisonError::into_inner).update(key, new.cloned());
        let unchanged = matches!((&old, new), (Some(old), Some(new)) if revision(&**old) == revision(&**new));
        if unchanged {
            return;
        }
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(Change { old: old.as_ref(), new });
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State<K>) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Resource> State<K> {
    fn update(&mut self, key: Key, new: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match new.clone() {
            Some(object) => self.objects.insert(key.clone(), object),
            None => self.objects.remove(&key),
        };
        if let Some(old) = &old {
            let controller = Controller::of(&**old);
            if let Some(keys) = self.by_controller.get_mut(&controller) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_controller.remove(&controller);
                }
            }
        }
        if let Some(new) = new {
            self.by_controller.entry(Controller::of(&*new)).or_default().insert(key);
        }
        old
    }

    fn of_controller(&self, controller: &Controller) -> Vec<Arc<K>> {
        let keys = self.by_controller.get(controller).into_iter().flatten();
        let mut objects: Vec<_> = keys.filter_map(|key| self.objects.get_key_value(key)).collect();
        objects.sort_by_key(|(key, _)| *key);
        objects.into_iter().map(|(_, object)| Arc::clone(object)).collect()
    }
}

impl Controller {
    fn of<K: Resource>(object: &K) -> Self {
        match super::owner::controller(object.meta()) {
            Some(owner) => Self::Uid(owner.uid.clone()),
            None => Self::Nobody { namespace: object.namespace().unwrap_or_default() },
        }
    }
}

pub(crate) fn is_deleted<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The API numbers all writes with one counter, so revisions of one API can be compared.
pub(crate) fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
