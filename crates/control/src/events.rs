//! Events, as `kubectl describe` shows them: those of one object written in order, repeated ones counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use super::time::time;

/// So many are written at once, so that those of a busy object do not hold up all others.
const WRITERS: usize = 8;
/// Events that wait for one writer; more are dropped, because nobody's work may wait for them.
const QUEUE: usize = 512;
/// Events whose repetitions one writer counts instead of writing them anew.
const REMEMBERED: usize = 256;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    /// One for each writer; an object's events always go to the same.
    queues: Arc<[mpsc::Sender<Note>]>,
    component: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq)]
struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    /// Present in events of the newer form.
    action: Option<&'static str>,
    message: String,
    component: &'static str,
    at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    uid: String,
    severity: Severity,
    reason: &'static str,
    message: String,
    component: &'static str,
}

#[derive(Debug)]
struct Written {
    name: String,
    count: i32,
}

impl Events {
    /// With the task of those who write them.
    pub(crate) fn new(client: &Client) -> (Self, impl Future<Output = ()> + use<>) {
        let (queues, writers): (Vec<_>, Vec<_>) = (0..WRITERS)
            .map(|_| {
                let (queue, notes) = mpsc::channel(QUEUE);
                (queue, write_all(client.clone(), notes))
            })
            .unzip();
        let written = async { drop(futures::future::join_all(writers).await) };
        (Self { queues: queues.into(), component: "" }, written)
    }

    /// The same events from another controller.
    pub(crate) fn of(&self, component: &'static str) -> Self {
        Self { queues: Arc::clone(&self.queues), component }
    }

    pub(crate) fn normal<K>(&self, about: &K, reason: &'static str, message: impl Into<String>)
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.note(reference(about), Severity::Normal, reason, message.into());
    }

    pub(crate) fn warning<K>(&self, about: &K, reason: &'static str, message: impl Into<String>)
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.note(reference(about), Severity::Warning, reason, message.into());
    }

    pub(crate) fn about<K>(&self, about: &K, severity: Severity, reason: &'static str, message: String)
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.note(reference(about), severity, reason, message);
    }

    /// In the newer form, which names the action.
    pub(crate) fn acted<K>(&self, about: &K, reason: &'static str, action: &'static str, message: String)
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.send(reference(about), Severity::Normal, reason, Some(action), message);
    }

    pub(crate) fn acted_in_vain<K>(&self, about: &K, reason: &'static str, action: &'static str, message: String)
    where
        K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        self.send(reference(about), Severity::Warning, reason, Some(action), message);
    }

    pub(crate) fn note(&self, about: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        self.send(about, severity, reason, None, message);
    }

    fn send(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &'static str,
        action: Option<&'static str>,
        message: String,
    ) {
        let note = Note { about, severity, reason, action, message, component: self.component, at: Timestamp::now() };
        let uid = note.about.uid.as_deref().unwrap_or_default();
        let writer = sluice_model::fnv1a(uid.as_bytes()) as usize % self.queues.len();
        if self.queues[writer].try_send(note).is_err() {
            tracing::debug!(reason, "Event dropped");
        }
    }
}

fn reference<K>(object: &K) -> ObjectReference
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

async fn write_all(client: Client, mut notes: mpsc::Receiver<Note>) {
    let mut known: HashMap<Same, Written> = HashMap::new();
    let mut order: VecDeque<Same> = VecDeque::new();
    while let Some(note) = notes.recv().await {
        let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let same = note.same();
        if let Some(written) = known.get_mut(&same)
            && written.count_up(&api, &note).await
        {
            continue;
        }
        let event = note.event(&namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            // A namespace that is being deleted takes none.
            tracing::debug!(%error, reason = note.reason, "Event refused");
            continue;
        }
        if known.insert(same.clone(), Written { name, count: 1 }).is_none() {
            order.push_back(same);
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

impl Written {
    /// False when the event is gone.
    async fn count_up(&mut self, api: &Api<Event>, note: &Note) -> bool {
        let patch = match note.action {
            Some(_) => json!({"series": {"count": self.count + 1, "lastObservedTime": MicroTime(note.at)}}),
            None => json!({"count": self.count + 1, "lastTimestamp": time(note.at)}),
        };
        let patched = api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.count += 1;
        patched.is_ok()
    }
}

impl Note {
    fn same(&self) -> Same {
        Same {
            uid: self.about.uid.clone().unwrap_or_default(),
            severity: self.severity,
            reason: self.reason,
            message: self.message.clone(),
            component: self.component,
        }
    }

    fn event(&self, namespace: &str) -> Event {
        let about = self.about.name.as_deref().unwrap_or_default();
        let component = Some(self.component.to_owned());
        let event = Event {
            metadata: ObjectMeta {
                // Sorts by time.
                name: Some(format!("{about}.{:x}", self.at.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: self.about.clone(),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            type_: Some(format!("{:?}", self.severity)),
            reporting_component: component.clone(),
            ..Event::default()
        };
        match self.action {
            Some(action) => Event {
                event_time: Some(MicroTime(self.at)),
                action: Some(action.to_owned()),
                reporting_instance: component.map(|component| format!("{component}-sluice")),
                ..event
            },
            None => Event {
                source: Some(EventSource { component, host: None }),
                first_timestamp: Some(time(self.at)),
                last_timestamp: Some(time(self.at)),
                count: Some(1),
                ..event
            },
        }
    }
}
