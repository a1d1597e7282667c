//! One watch per resource: lists, follows, and lists again when it has lost the thread.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use sluice_route::ObjectKey;
use tokio::sync::{mpsc, watch as channel};

use super::materials::Wanted;
use super::object::{Bare, CaConfigMap, Resource, TlsData, TlsSecret, Whole};
use super::status::{Observed, Subject};
use super::{key_of, reading};
use crate::plane::{Authorities, AuthoritiesError, Certificate, CertificateError};

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
    Listed {
        resource: Resource,
        round: u64,
    },
}

#[derive(Debug)]
pub(crate) enum Change {
    Facts(sluice_route::Change),
    /// What a Secret holds; `None` when it is gone, or not wanted any more.
    Certificate(ObjectKey, Option<Result<Certificate, CertificateError>>),
    /// What a ConfigMap holds; `None` as above.
    Authorities(ObjectKey, Option<Result<Authorities, AuthoritiesError>>),
    /// What stands in the status now; `None` when the object is gone.
    Status(Subject, Option<Observed>),
}

/// Ends when nobody listens any more.
pub(crate) async fn run(client: Client, resource: Resource, sender: mpsc::Sender<Update>) {
    let mut follower = Follower::new(resource, sender);
    match resource {
        Resource::Pods | Resource::Namespaces => follower.follow::<Bare>(client).await,
        _ => follower.follow::<Whole>(client).await,
    }
}

/// Follows the objects that others refer to, and lists them anew whenever these are others. Without any it reads nothing.
pub(crate) async fn run_wanted<K: Watched>(
    client: Client,
    resource: Resource,
    mut wanted: channel::Receiver<Wanted>,
    sender: mpsc::Sender<Update>,
) {
    let mut follower = Follower::new(resource, sender);
    while wanted.changed().await.is_ok() {
        follower.wanted = wanted.borrow_and_update().clone();
        if follower.wanted.keys.is_empty() {
            follower.listing.clear();
            if follower.end_list().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = follower.follow::<K>(client.clone()) => return,
            changed = wanted.changed() => match changed {
                Ok(()) => wanted.mark_changed(),
                Err(_) => return,
            },
        }
    }
}

pub(crate) trait Watched:
    kube::Resource<DynamicType = Resource> + Clone + Debug + DeserializeOwned + Send + 'static
{
    /// What is asked for in the first place.
    const FIELDS: Option<&str> = None;

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
        let status = Subject::of(resource, &key_of(&self.metadata))
            .map(|subject| Change::Status(subject, Some(Observed::of(resource, self))));
        [Some(Change::Facts(facts)), status].into_iter().flatten().collect()
    }
}

impl Watched for TlsSecret {
    const FIELDS: Option<&str> = Some("type=kubernetes.io/tls");

    fn changes(&self, _: Resource) -> Vec<Change> {
        let TlsData { chain, key } = &self.data;
        vec![Change::Certificate(key_of(&self.metadata), Some(Certificate::read(&chain.0, &key.0)))]
    }
}

impl Watched for CaConfigMap {
    fn changes(&self, _: Resource) -> Vec<Change> {
        let read = Authorities::read(self.data.authorities.as_deref());
        vec![Change::Authorities(key_of(&self.metadata), Some(read))]
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
    /// Of resources that are read only where they are wanted.
    wanted: Wanted,
    known: HashSet<ObjectKey>,
    /// Told since the present list began.
    listing: HashSet<ObjectKey>,
}

/// The loop is gone.
struct Gone;

impl Follower {
    fn new(resource: Resource, sender: mpsc::Sender<Update>) -> Self {
        Self { resource, sender, wanted: Wanted::default(), known: HashSet::new(), listing: HashSet::new() }
    }

    /// Ends when nobody listens any more.
    async fn follow<K: Watched>(&mut self, client: Client) {
        let resource = self.resource;
        let mut retry = FIRST_RETRY;
        let mut is_said = false;
        let api: Api<K> = Api::all_with(client, &resource);
        // Lists, not streams that begin with one: these may begin with what a cache held before our Lease was there.
        let config = watcher::Config { field_selector: K::FIELDS.map(str::to_owned), ..watcher::Config::default() };
        let events = watcher(api, config);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let error = match event {
                Ok(event) => {
                    retry = FIRST_RETRY;
                    if self.take(event).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) => error,
            };
            match code(&error) {
                // It may get one later.
                Some(404) => {
                    if !std::mem::replace(&mut is_said, true) {
                        let [group, version, kind, _] = resource.names();
                        tracing::warn!(
                            group,
                            version,
                            kind,
                            "The API has no such resource: served as if there were none"
                        );
                    }
                    if self.send_listed().await.is_err() {
                        return;
                    }
                }
                code => {
                    tracing::warn!(resource = resource.plural(), %error, "Watch interrupted");
                    // Who may not read Secrets has no certificates, but everything else.
                    if code == Some(403) && resource.is_read_where_wanted() && self.send_listed().await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    async fn take<K: Watched>(&mut self, event: Event<K>) -> Result<(), Gone> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) if self.is_wanted(&object) => {
                self.listing.insert(key_of(object.meta()));
                self.tell(&object).await?;
            }
            Event::Apply(object) if self.is_wanted(&object) => self.tell(&object).await?,
            Event::InitApply(_) | Event::Apply(_) => {}
            Event::InitDone => self.end_list().await?,
            Event::Delete(object) => self.tell_gone(key_of(object.meta()), revision(object.meta())).await?,
        }
        Ok(())
    }

    async fn end_list(&mut self) -> Result<(), Gone> {
        let listing = std::mem::take(&mut self.listing);
        let gone: Vec<ObjectKey> = self.known.difference(&listing).cloned().collect();
        for key in gone {
            self.tell_gone(key, 0).await?;
        }
        self.send_listed().await
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
        let facts = match self.resource {
            Resource::Secrets => Change::Certificate(key, None),
            Resource::ConfigMaps => Change::Authorities(key, None),
            resource => Change::Facts(reading::gone(resource, key)),
        };
        for change in [Some(facts), status].into_iter().flatten() {
            let change = Box::new(change);
            self.send(Update::Changed { resource: self.resource, revision, change }).await?;
        }
        Ok(())
    }

    fn is_wanted<K: Watched>(&self, object: &K) -> bool {
        !self.resource.is_read_where_wanted() || self.wanted.keys.contains(&key_of(object.meta()))
    }

    async fn send_listed(&self) -> Result<(), Gone> {
        self.send(Update::Listed { resource: self.resource, round: self.wanted.round }).await
    }

    async fn send(&self, update: Update) -> Result<(), Gone> {
        self.sender.send(update).await.map_err(|_| Gone)
    }
}

/// Revisions are compared, which the API allows since they are numbers.
fn revision(metadata: &kube::core::ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|revision| revision.parse().ok()).unwrap_or(0)
}
