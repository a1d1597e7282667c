//! Container images of this node: pulled when a pod needs them, tried again with growing pauses, kept while pods use them.

mod policy;
mod slots;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerImage, Pod, Secret};
use kube::{Api, Client, ResourceExt as _};
use sluice_image::{Credential, Digest, Hosts, Image, Keyring, Policy, Pull, PullError, Reference, Registry, Store};
use tokio::{sync::broadcast, task::AbortHandle};
use tracing::{info, warn};

pub(super) use self::policy::{FAILURE_SHOWN, back_off_message};
use self::{
    policy::{Attempt, PullPolicy, Step},
    slots::Slots,
};
use super::{
    events::{Happening, Recorder, reference},
    sources,
};

/// How often unused images are looked for, as any kubelet does.
const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// The longest message of a failure in a status or an event.
const MAX_MESSAGE: usize = 1000;
/// Images whose ids are remembered.
const MAX_STATUS_IDS: usize = 1024;
/// Images that a Node's status names, as any kubelet does.
const MAX_STATUS_IMAGES: usize = 50;

/// Why a container waits for its image: a reason as Kubernetes knows it, and a message.
pub(super) type Withheld = (&'static str, String);

/// An image that is here.
pub(super) struct Found {
    pub(super) image: Image,
    /// It was pulled for this very container.
    pub(super) pulled: bool,
}

/// The images of the data directory, and what is being done about missing ones; cheap to clone.
#[derive(Clone)]
pub(super) struct Pulls {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    client: Client,
    recorder: Recorder,
    changes: broadcast::Sender<sources::Reference>,
    /// Made for the first pull: it reads the machine's certificates.
    registry: OnceLock<Registry>,
    slots: Slots,
    /// Pulls that run, to be ended with their pod.
    running: Mutex<BTreeMap<Key, AbortHandle>>,
    attempts: Mutex<BTreeMap<Key, Attempt>>,
    /// What statuses say of images that pods run, by the name that they use.
    status_ids: Mutex<BTreeMap<String, String>>,
}

/// Attempts are a pod's own: another one may have other secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    uid: String,
    image: String,
}

impl Pulls {
    pub(super) fn new(
        data_dir: &Path,
        client: Client,
        recorder: Recorder,
        changes: broadcast::Sender<sources::Reference>,
    ) -> Result<Self, sluice_image::StoreError> {
        let inner = Inner {
            store: Store::open(data_dir.join("images"))?,
            client,
            recorder,
            changes,
            registry: OnceLock::new(),
            slots: Slots::default(),
            running: Mutex::default(),
            attempts: Mutex::default(),
            status_ids: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The image of a container, or why it must wait; starts a pull where one is due.
    pub(super) fn look(&self, pod: &Pod, container: &Container) -> Result<Found, Withheld> {
        let name = container.image.clone().unwrap_or_default();
        let wanted = parse(&name)?;
        let present = self.inner.store.get(&wanted).map_err(|error| ("ErrImagePull", chain(&error)))?;
        let policy = PullPolicy::of(container.image_pull_policy.as_deref(), &wanted);
        let key = Key { uid: pod.uid().unwrap_or_default(), image: name.clone() };
        let mut attempts = self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match (policy::decide(policy, present.is_some(), attempts.get(&key), now), present) {
            (Step::Use, Some(image)) => {
                // That it was here already is told by whoever starts the container.
                let attempt = attempts.entry(key.clone()).or_insert(Attempt::Present);
                let pulled = matches!(attempt, Attempt::Pulled { container: other } if *other == container.name);
                drop(attempts);
                if !self.keep(&key.uid, image.id())? {
                    // Removed while we looked.
                    return self.look(pod, container);
                }
                let id = image.status_id(&wanted);
                self.inner.status_ids.lock().unwrap_or_else(PoisonError::into_inner).insert(name, id);
                Ok(Found { image, pulled })
            }
            (Step::Pull { failures }, _) => {
                let attempt = Attempt::again(attempts.get(&key), failures);
                let withheld = policy::waiting(&name, Some(&attempt), now);
                attempts.insert(key.clone(), attempt);
                drop(attempts);
                let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
                let pull = self.clone().pull(key.clone(), wanted, pod.clone(), container.clone(), failures);
                running.insert(key, tokio::spawn(pull).abort_handle());
                Err(withheld)
            }
            (Step::Wait, _) | (Step::Use, None) => Err(policy::waiting(&name, attempts.get(&key), now)),
            (Step::Never, _) => Err(never(&name)),
        }
    }

    async fn pull(self, key: Key, wanted: Reference, pod: Pod, container: Container, failures: u32) {
        let name = &key.image;
        let queued = Instant::now();
        let _slot = self.inner.slots.acquire(wanted.registry()).await;
        self.tell(&pod, &container, "Pulling", format!("Pulling image \"{name}\""), false);
        let started = Instant::now();
        let credentials = self.credentials(&pod, &wanted).await;
        let result = match self.registry() {
            Ok(registry) => {
                let pull = Pull { credentials, ..Pull::new(wanted) };
                let result = pull.run(&self.inner.store, registry).await;
                if result.as_ref().is_err_and(PullError::is_disk_full) {
                    // What nobody needs goes before the next try, not in five minutes.
                    self.make_room().await;
                }
                result.map_err(|error| chain(&error))
            }
            Err(why) => Err(why),
        };
        let attempt = match result {
            Ok(image) => {
                let message = format!(
                    "Successfully pulled image \"{name}\" in {} ({} including waiting). Image size: {} bytes.",
                    took(started.elapsed()),
                    took(queued.elapsed()),
                    image.record.size
                );
                info!(image = name, "Image pulled");
                self.tell(&pod, &container, "Pulled", message, false);
                // Held before anybody looks: it must not be collected in between.
                if let Err((_, error)) = self.keep(&key.uid, image.id()) {
                    warn!(image = name, error, "Image not leased");
                }
                Attempt::Pulled { container: container.name.clone() }
            }
            Err(mut message) => {
                warn!(image = name, error = message, "Image not pulled");
                message.truncate(message.floor_char_boundary(MAX_MESSAGE));
                self.tell(&pod, &container, "Failed", format!("Failed to pull image \"{name}\": {message}"), true);
                self.tell(&pod, &container, "Failed", "Error: ErrImagePull".to_owned(), true);
                Attempt::failed(message, failures + 1, Instant::now())
            }
        };
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.remove(&key).is_some() {
            self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, attempt);
        }
        drop(running);
        // Without a pod nobody listens.
        let _listeners = self.inner.changes.send(sources::Reference::Image);
    }

    fn registry(&self) -> Result<&Registry, String> {
        if let Some(registry) = self.inner.registry.get() {
            return Ok(registry);
        }
        let path = self.inner.store.root().join("registries.json");
        let hosts = Hosts::read(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        Ok(self.inner.registry.get_or_init(|| Registry::new(hosts)))
    }

    /// The pod's own secrets first, then what the user of this machine has.
    async fn credentials(&self, pod: &Pod, wanted: &Reference) -> Vec<Credential> {
        let mut found = Vec::new();
        let api = Api::<Secret>::namespaced(self.inner.client.clone(), &pod.namespace().unwrap_or_default());
        for named in pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()) {
            let secret = match api.get_opt(&named.name).await {
                Ok(Some(secret)) => secret,
                // A kubelet goes on without it, too: the image may need none.
                Ok(None) => continue,
                Err(error) => {
                    warn!(secret = named.name, %error, "Pull secret not read");
                    continue;
                }
            };
            let data = secret.data.unwrap_or_default();
            let keyring = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
                (Some(text), _) => Keyring::of_secret(&text.0),
                (None, Some(text)) => Keyring::of_old_secret(&text.0),
                (None, None) => continue,
            };
            match keyring {
                Ok(keyring) => found.extend(keyring.credentials(wanted).await),
                Err(error) => warn!(secret = named.name, %error, "Pull secret not understood"),
            }
        }
        match Keyring::of_user() {
            Ok(keyring) => found.extend(keyring.credentials(wanted).await),
            Err(error) => warn!(%error, "Docker's configuration not read"),
        }
        found
    }

    /// Notes that a pod needs an image until it is gone, and answers whether the image is still here.
    fn keep(&self, uid: &str, image: &Digest) -> Result<bool, Withheld> {
        let store = &self.inner.store;
        let failed = |error: sluice_image::StoreError| ("CreateContainerError", chain(&error));
        if store.leases().map_err(failed)?.get(uid).is_some_and(|images| images.contains(image)) {
            return Ok(true);
        }
        let here = store.lease_more(uid, image).map_err(failed)?;
        if here {
            store.touch(image);
        }
        Ok(here)
    }

    /// What a status says of an image that is here: its name in full, and its content.
    pub(super) fn status_names(&self, image: &str) -> Option<(String, String)> {
        let mut known = self.inner.status_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > MAX_STATUS_IDS {
            known.clear();
        }
        let name: Reference = image.parse().ok()?;
        if let Some(id) = known.get(image) {
            return Some((name.to_string(), id.clone()));
        }
        // Pulled for an earlier agent.
        let id = self.inner.store.get(&name).ok()??.status_id(&name);
        known.insert(image.to_owned(), id.clone());
        Some((name.to_string(), id))
    }

    /// A pod is gone: nothing is pulled for it any more or remembered of it, and its images may go.
    pub(super) fn forget(&self, uid: &str) {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.extract_if(.., |key, _| key.uid == uid).for_each(|(_, pull)| pull.abort());
        drop(running);
        self.inner.attempts.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| key.uid != uid);
        if let Err(error) = self.inner.store.release(uid) {
            warn!(uid, %error, "Lease not released");
        }
    }

    /// Lets go of what pods needed that no longer exist, and makes room now and then.
    pub(super) async fn collect(self, pods_dir: std::path::PathBuf) {
        let mut tick = tokio::time::interval(COLLECT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (pulls, pods_dir) = (self.clone(), pods_dir.clone());
            let released = tokio::task::spawn_blocking(move || {
                let store = &pulls.inner.store;
                let mut gone = store.leases()?.into_keys().filter(|uid| !pods_dir.join(uid).exists());
                gone.try_for_each(|uid| store.release(&uid))
            });
            match released.await {
                Ok(Ok(())) => self.make_room().await,
                Ok(Err(error)) => warn!(%error, "Leases not released"),
                Err(error) => warn!(%error, "Leases not released"),
            }
        }
    }

    async fn make_room(&self) {
        let store = self.inner.store.clone();
        let collected = tokio::task::spawn_blocking(move || store.collect(Policy::default(), Timestamp::now()));
        match collected.await {
            Ok(Ok(collected)) if collected.removed.is_empty() => {}
            Ok(Ok(collected)) => info!(images = collected.removed.len(), "Unused images removed"),
            Ok(Err(error)) => warn!(%error, "Unused images not removed"),
            Err(error) => warn!(%error, "Unused images not removed"),
        }
    }

    /// The largest images, as a Node's status lists them.
    pub(super) fn node_images(&self) -> Vec<ContainerImage> {
        let mut records = self.inner.store.list().unwrap_or_default();
        records.sort_by_key(|record| std::cmp::Reverse(record.size));
        records.truncate(MAX_STATUS_IMAGES);
        let image = |record: sluice_image::Record| ContainerImage {
            names: Some(record.digests.into_iter().chain(record.names).collect()),
            size_bytes: i64::try_from(record.size).ok(),
        };
        records.into_iter().map(image).collect()
    }

    fn tell(&self, pod: &Pod, container: &Container, reason: &str, message: String, warning: bool) {
        self.inner.recorder.record(Happening {
            pod: reference(pod, Some(&container.name)),
            reason: reason.to_owned(),
            message,
            warning,
            at: Timestamp::now(),
        });
    }
}

/// An image's name as a reference to a registry.
pub(super) fn parse(name: &str) -> Result<Reference, Withheld> {
    name.parse().map_err(|error| {
        let message =
            format!("Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": {error}");
        ("InvalidImageName", message)
    })
}

pub(super) fn never(image: &str) -> Withheld {
    ("ErrImageNeverPull", format!("Container image \"{image}\" is not present with pull policy of Never"))
}

/// As Go writes durations of this kind: milliseconds, then seconds.
fn took(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.3}s", time.as_secs_f64())
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    format!("{error}{cause}")
}
