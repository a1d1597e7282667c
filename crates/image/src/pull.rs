//! Brings an image from a registry into the store: layers in parallel, each checked and unpacked while it comes.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::digest::Digest;
use crate::limits::{Budget, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ImageConfig, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Chunk, Credential, Registry, RegistryError, Served, Session};
use crate::store::{Image, Lock, Pending, Record, Store, StoreError, chain_ids};

/// Layers of one image that are downloaded at the same time.
const PARALLEL_LAYERS: usize = 3;
/// How often to look for the end of somebody who unpacks the same layer.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Pieces of a download that may wait for the disk.
const QUEUED_CHUNKS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("manifest of `{name}` {problem}")]
    Manifest { name: String, problem: ManifestError },
    #[error("manifest of `{name}` is not {expected} but {found}")]
    Digest { name: String, expected: Digest, found: Digest },
    #[error("manifest of `{name}` has {found} bytes instead of the {size} of its index")]
    Size { name: String, size: u64, found: u64 },
    #[error("manifest of `{name}`: indexes lead to indexes, more than {limit} times")]
    Depth { name: String, limit: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("interrupted")]
    Interrupted,
}

impl PullError {
    /// Whether another try would meet the same.
    fn is_final(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_final(),
            Self::Manifest { .. } | Self::Digest { .. } | Self::Size { .. } | Self::Depth { .. } | Self::Store(_) => {
                true
            }
            Self::Interrupted => false,
        }
    }

    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(StoreError::DiskFull { .. }))
    }

    /// Whether it is the host that was asked, and another may do better.
    fn is_about_host(&self) -> bool {
        match self {
            Self::Registry(_) | Self::Manifest { .. } | Self::Digest { .. } | Self::Size { .. } => true,
            Self::Store(error) => matches!(error, StoreError::Digest { .. } | StoreError::Size { .. }),
            Self::Depth { .. } | Self::Interrupted => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Manifest { problem, .. } => problem.hint(),
            Self::Digest { .. } | Self::Size { .. } => {
                Some("the registry serves something else than it was asked for: push the image again")
            }
            Self::Store(error) => error.hint(),
            Self::Depth { .. } | Self::Interrupted => None,
        }
    }
}

/// What happens while an image comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A layer of so many bytes will be downloaded.
    Layer { digest: Digest, size: u64 },
    /// So many more bytes of it came.
    Bytes { digest: Digest, bytes: u64 },
    /// It is unpacked.
    Done { digest: Digest },
    /// It was here already.
    Exists { digest: Digest },
}

type Report = Arc<dyn Fn(Progress) + Send + Sync>;

/// What to pull, and how.
#[derive(Clone)]
pub struct Pull {
    pub reference: Reference,
    pub platform: Platform,
    /// Tried in turn, and at last nobody's.
    pub credentials: Vec<Credential>,
    pub progress: Report,
}

impl Pull {
    pub fn new(reference: Reference) -> Self {
        Self { reference, platform: Platform::host(), credentials: Vec::new(), progress: Arc::new(|_| ()) }
    }

    /// Fetches whatever the store does not have yet, and makes the image known. Dropped, it leaves nothing unfinished.
    ///
    /// Layers that came whole before a connection broke stay for the next try; what came with a lie is of no use to anybody.
    pub async fn run(&self, store: &Store, registry: &Registry) -> Result<Image, PullError> {
        let result = self.fetch(store, registry).await;
        if result.as_ref().is_err_and(PullError::is_final) {
            let store = store.clone();
            if let Err(error) = blocking(move || store.sweep_if_idle()).await {
                tracing::debug!(%error, "Remains of a pull not removed");
            }
        }
        result
    }

    async fn fetch(&self, store: &Store, registry: &Registry) -> Result<Image, PullError> {
        let _hold = blocking({
            let store = store.clone();
            move || store.hold()
        })
        .await?;
        let mut from = 0;
        loop {
            let found = self.find(registry, from).await;
            let (result, next) = match found {
                Ok(found) => (self.bring(store, &found).await, found.session.next()),
                Err(failed) => (Err(failed.error), failed.next),
            };
            match (result, next) {
                // A mirror that has the beginning of an image and not the rest must not keep the registry from being asked.
                (Err(error), Some(next)) if error.is_about_host() => {
                    tracing::debug!(%error, "Mirror of no use");
                    from = next;
                }
                (result, _) => return result,
            }
        }
    }

    async fn bring(&self, store: &Store, found: &Found) -> Result<Image, PullError> {
        let config_bytes = match store.blob(&found.manifest.config.digest) {
            Ok(bytes) => bytes,
            Err(_) => found.session.blob(&found.manifest.config, MAX_CONFIG_BYTES).await?,
        };
        store.put_blob(&found.manifest.config.digest, &config_bytes)?;
        store.put_blob(&found.digest, &found.bytes)?;
        let config = ImageConfig::parse(&config_bytes).map_err(|problem| self.wrong(problem))?;
        config.check(&self.platform, found.manifest.layers.len()).map_err(|problem| self.wrong(problem))?;
        let keys = self.layers(store, found, &config).await?;
        let record = self.record(store, found, keys, config_bytes.len() as u64);
        let id = record.id.clone();
        blocking({
            let store = store.clone();
            move || {
                store.commit(record)?;
                store.find(&id.to_string())?.ok_or_else(|| StoreError::Unknown(id.to_string()))
            }
        })
        .await
    }

    async fn find(&self, registry: &Registry, from: usize) -> Result<Found, Failed> {
        let resolved = registry.resolve(&self.reference, &self.credentials, MAX_MANIFEST_BYTES, from).await;
        // Every endpoint was asked for it.
        let (session, served) = resolved.map_err(|error| Failed { error: error.into(), next: None })?;
        let next = session.next();
        self.choose(session, served).await.map_err(|error| Failed { error, next })
    }

    /// From what the name points at to the manifest of the platform.
    async fn choose(&self, session: Session, mut served: Served) -> Result<Found, PullError> {
        let name = self.reference.to_string();
        let asked = self.reference.digest().cloned();
        let mut digest = asked.clone().unwrap_or_else(|| Digest::of(&served.bytes));
        let mut size = None;
        let top = digest.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            let Served { bytes, content_type } = served;
            if !digest.verify(&bytes) {
                let found = Digest::of(&bytes);
                return Err(PullError::Digest { name, expected: digest, found });
            }
            if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
                return Err(PullError::Size { name, size, found: bytes.len() as u64 });
            }
            match manifest::parse(&bytes, content_type.as_deref()).map_err(|problem| self.wrong(problem))? {
                Document::Manifest(manifest) => {
                    return Ok(Found { session, top, digest, bytes, manifest: *manifest });
                }
                Document::Index(index) => {
                    let chosen = index.choose(&self.platform).map_err(|problem| self.wrong(problem))?;
                    digest = chosen.digest.clone();
                    size = Some(chosen.size);
                    served = match chosen.inline() {
                        Some(bytes) => Served { bytes, content_type: Some(chosen.media_type.clone()) },
                        None => session.manifest(&digest.to_string(), MAX_MANIFEST_BYTES).await?,
                    };
                }
            }
        }
        Err(PullError::Depth { name, limit: MAX_INDEX_DEPTH })
    }

    /// Downloads and unpacks in parallel, and puts the layers in their place from the bottom up.
    async fn layers(&self, store: &Store, found: &Found, config: &ImageConfig) -> Result<Vec<String>, PullError> {
        let diff_ids = &config.rootfs.diff_ids;
        let chain_ids = chain_ids(diff_ids);
        let slots = Arc::new(Semaphore::new(PARALLEL_LAYERS));
        let budget = store.budget();
        let mut coming: Vec<Coming> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        for ((layer, diff_id), chain_id) in found.manifest.layers.iter().zip(diff_ids).zip(&chain_ids) {
            if let Some(key) = store.layer(diff_id, chain_id) {
                (self.progress)(Progress::Exists { digest: layer.digest.clone() });
                coming.push(Coming::Here(key));
                continue;
            }
            (self.progress)(Progress::Layer { digest: layer.digest.clone(), size: layer.size });
            let slot = slots.clone().acquire_owned();
            // Layers below are put in their place while we wait, so that nobody waits for us in turn.
            let slot = self.publish_until(store, slot, &mut coming, &mut keys, &chain_ids).await?;
            let slot = slot.expect("the semaphore is never closed");
            let lock = wait_for_layer(store, diff_id, found.session.patience().idle);
            let lock = self.publish_until(store, lock, &mut coming, &mut keys, &chain_ids).await??;
            if let Some(key) = store.layer(diff_id, chain_id) {
                (self.progress)(Progress::Done { digest: layer.digest.clone() });
                coming.push(Coming::Here(key));
                continue;
            }
            let job = Job {
                store: store.clone(),
                session: found.session.clone(),
                layer: layer.clone(),
                diff_id: diff_id.clone(),
                budget: budget.clone(),
                progress: self.progress.clone(),
            };
            let task = tokio::spawn(async move {
                let pending = job.run().await;
                drop(slot);
                pending.map(|pending| (pending, lock))
            });
            coming.push(Coming::Task(Abort(task)));
        }
        while keys.len() < coming.len() {
            self.publish_next(store, &mut coming, &mut keys, &chain_ids).await?;
        }
        Ok(keys)
    }

    /// Waits for something, and meanwhile puts layers in their place as they are ready.
    async fn publish_until<T>(
        &self,
        store: &Store,
        wait: impl Future<Output = T>,
        coming: &mut [Coming],
        keys: &mut Vec<String>,
        chain_ids: &[Digest],
    ) -> Result<T, PullError> {
        let mut wait = std::pin::pin!(wait);
        loop {
            match coming.get_mut(keys.len()) {
                Some(Coming::Here(key)) => keys.push(std::mem::take(key)),
                Some(Coming::Task(task)) => tokio::select! {
                    value = &mut wait => return Ok(value),
                    done = &mut task.0 => {
                        let ready = done.map_err(|_| PullError::Interrupted)??;
                        let key = place(store, ready, &chain_ids[keys.len()], keys).await?;
                        keys.push(key);
                    }
                },
                None => return Ok(wait.await),
            }
        }
    }

    async fn publish_next(
        &self,
        store: &Store,
        coming: &mut [Coming],
        keys: &mut Vec<String>,
        chain_ids: &[Digest],
    ) -> Result<(), PullError> {
        let at = keys.len();
        let key = match &mut coming[at] {
            Coming::Here(key) => std::mem::take(key),
            Coming::Task(task) => {
                let ready = (&mut task.0).await.map_err(|_| PullError::Interrupted)??;
                place(store, ready, &chain_ids[at], keys).await?
            }
        };
        keys.push(key);
        Ok(())
    }

    fn record(&self, store: &Store, found: &Found, keys: Vec<String>, config_size: u64) -> Record {
        let names = self.reference.tag().filter(|_| self.reference.digest().is_none());
        let digests = [&found.top, &found.digest].map(|digest| self.reference.with_digest(digest).to_string());
        Record {
            id: found.manifest.config.digest.clone(),
            manifest: Some(found.digest.clone()),
            names: names.map(|_| self.reference.to_string()).into_iter().collect(),
            digests: digests.into_iter().collect(),
            size: config_size + found.manifest.layers.iter().map(|layer| layer.size).sum::<u64>(),
            unpacked: keys.iter().map(|key| store.layer_bytes(key)).sum(),
            layers: keys,
            pulled: Timestamp::now(),
        }
    }

    fn wrong(&self, problem: ManifestError) -> PullError {
        PullError::Manifest { name: self.reference.to_string(), problem }
    }
}

struct Found {
    session: Session,
    /// Of what the name points at, which may be an index.
    top: Digest,
    digest: Digest,
    bytes: Vec<u8>,
    manifest: Manifest,
}

/// Why there is no manifest, and where to look next.
struct Failed {
    error: PullError,
    next: Option<usize>,
}

type Ready = (Pending, Option<Lock>);

enum Coming {
    /// Its key.
    Here(String),
    Task(Abort<Result<Ready, PullError>>),
}

/// A task that ends with whoever waits for it.
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn place(store: &Store, ready: Ready, chain_id: &Digest, lowers: &[String]) -> Result<String, PullError> {
    let (store, chain_id, lowers) = (store.clone(), chain_id.clone(), lowers.to_vec());
    blocking(move || {
        let (mut pending, _lock) = ready;
        store.publish(&mut pending, &chain_id, &lowers)
    })
    .await
}

/// One layer on its way.
struct Job {
    store: Store,
    session: Session,
    layer: Descriptor,
    diff_id: Digest,
    budget: Budget,
    progress: Report,
}

impl Job {
    async fn run(self) -> Result<Pending, PullError> {
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let unpack = blocking({
            let (store, layer, diff_id) = (self.store.clone(), self.layer.clone(), self.diff_id.clone());
            let (chunks, budget) = (Chunks { receiver, chunk: Bytes::new(), ended: false }, self.budget.clone());
            move || store.unpack(chunks, Some(&layer), &diff_id, &budget)
        });
        let came = |bytes| (self.progress)(Progress::Bytes { digest: self.layer.digest.clone(), bytes });
        let (downloaded, unpacked) = tokio::join!(self.session.download(&self.layer, sender, came), unpack);
        // A download that failed is why nothing could be unpacked.
        downloaded?;
        let pending = unpacked?;
        (self.progress)(Progress::Done { digest: self.layer.digest });
        Ok(pending)
    }
}

/// A download as a thread reads it.
struct Chunks {
    receiver: mpsc::Receiver<Chunk>,
    chunk: Bytes,
    ended: bool,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Chunk::Data(data)) => self.chunk = data,
                Some(Chunk::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download was cut")),
            }
        }
        let n = self.chunk.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.chunk.split_to(n));
        Ok(n)
    }
}

/// The right to unpack a layer. Somebody who keeps it for long may hang: then the layer is downloaded twice.
async fn wait_for_layer(store: &Store, diff_id: &Digest, patience: Duration) -> Result<Option<Lock>, PullError> {
    let since = Instant::now();
    loop {
        let lock = store.try_lock_layer(diff_id)?;
        if lock.is_some() || since.elapsed() > patience {
            return Ok(lock);
        }
        // Files have no way to tell that they are unlocked, except to a thread that nobody can stop.
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Work that waits for the disk, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(PullError::from),
        Err(_) => Err(PullError::Interrupted),
    }
}
