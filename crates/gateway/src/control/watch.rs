//! One watch per resource: lists, follows, and lists again when it has lost the thread.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use sluice_route::ObjectKey;
use tokio::sync::mpsc;

use super::object::{Bare, Resource, Whole};
use super::status::{Observed, Subject};
use super::{key_of, reading};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What a watch tells the loop.
#[derive(Debug)]
pub(crate) enum Update {
    Changed {
        resource: Resource,
        revision: u64,
        change: Box<Change>,
    },
    /// Everything that was there has been told. Also said of a resource that the API does not have (yet).
    Listed(Resource),
}

#[derive(Debug)]
pub(crate) enum Change {
    Facts(sluice_route::Change),
    /// What stands in the status now; `None` when the object is gone.
    Status(Subject, Option<Observed>),
}

/// Ends when nobody listens any more.
pub(crate) async fn run(client: Client, resource: Resource, sender: mpsc::Sender<Update>) {
    match resource {
        Resource::Pods | Resource::Namespaces => follow::<Bare>(client, resource, sender).await,
        _ => follow::<Whole>(client, resource, sender).await,
    }
}

trait Watched: kube::Resource<DynamicType = Resource> + Clone + Debug + DeserializeOwned + Send + 'static {
    fn changes(&self, resource: Resource) -> Vec<Change>;
}

impl Watched for Bare {
    fn changes(&self, resource: Resource) -> Vec<Change> {
        vec![Change::Facts(reading::bare(resource, self))]
    }
}

impl Watched for Whole {
    fn changes(&self, resource: Resource) -> Vec<Change> {
        let (facts, error) = reading::whole(resource, self);
        if let Some(error) = error {
            let object = key_of(&self.metadata);
            tracing::warn!(resource = resource.plural(), %object, %error, "Object not served: it cannot be read");
        }
        let status = Subject::of(resource, &key_of(&self.metadata)).map(|subject| {
            let observed = Observed {
                revision: self.metadata.resource_version.clone().unwrap_or_default(),
                generation: self.metadata.generation.unwrap_or_default(),
                status: self.status.clone(),
            };
            Change::Status(subject, Some(observed))
        });
        [Some(Change::Facts(facts)), status].into_iter().flatten().collect()
    }
}

async fn follow<K: Watched>(client: Client, resource: Resource, sender: mpsc::Sender<Update>) {
    let mut streaming = true;
    let mut follower = Follower { resource, sender, known: HashSet::new(), listing: HashSet::new() };
    let mut retry = FIRST_RETRY;
    loop {
        let api: Api<K> = Api::all_with(client.clone(), &resource);
        let config = watcher::Config::default();
        let events = watcher(api, if streaming { config.streaming_lists() } else { config });
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let error = match event {
                Ok(event) => {
                    retry = FIRST_RETRY;
                    if follower.take(event).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) => error,
            };
            match code(&error) {
                // The API has no such resource. It may get one later.
                Some(404) => {
                    if follower.sender.send(Update::Listed(resource)).await.is_err() {
                        return;
                    }
                }
                // It does not know streaming lists.
                Some(400 | 422) if streaming => {
                    streaming = false;
                    break;
                }
                _ => tracing::warn!(resource = resource.plural(), %error, "Watch interrupted"),
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

struct Follower {
    resource: Resource,
    sender: mpsc::Sender<Update>,
    known: HashSet<ObjectKey>,
    /// Told since the present list began.
    listing: HashSet<ObjectKey>,
}

/// The loop is gone.
struct Gone;

impl Follower {
    async fn take<K: Watched>(&mut self, event: Event<K>) -> Result<(), Gone> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.insert(key_of(object.meta()));
                self.tell(&object).await?;
            }
            Event::Apply(object) => self.tell(&object).await?,
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let gone: Vec<ObjectKey> = self.known.difference(&listing).cloned().collect();
                for key in gone {
                    self.tell_gone(key, 0).await?;
                }
                self.send(Update::Listed(self.resource)).await?;
            }
            Event::Delete(object) => self.tell_gone(key_of(object.meta()), revision(object.meta())).await?,
        }
        Ok(())
    }

    async fn tell<K: Watched>(&mut self, object: &K) -> Result<(), Gone> {
        self.known.insert(key_of(object.meta()));
        let revision = revision(object.meta());
        for change in object.changes(self.resource) {
            let change = Box::new(change);
            self.send(Update::Changed { resource: self.resource, revision, change }).await?;
        }
        Ok(())
    }

    async fn tell_gone(&mut self, key: ObjectKey, revision: u64) -> Result<(), Gone> {
        self.known.remove(&key);
        let status = Subject::of(self.resource, &key).map(|subject| Change::Status(subject, None));
        let facts = Change::Facts(reading::gone(self.resource, key));
        for change in [Some(facts), status].into_iter().flatten() {
            let change = Box::new(change);
            self.send(Update::Changed { resource: self.resource, revision, change }).await?;
        }
        Ok(())
    }

    async fn send(&self, update: Update) -> Result<(), Gone> {
        self.sender.send(update).await.map_err(|_| Gone)
    }
}

/// Revisions are compared, which the API allows since they are numbers.
fn revision(metadata: &kube::core::ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|revision| revision.parse().ok()).unwrap_or(0)
}
