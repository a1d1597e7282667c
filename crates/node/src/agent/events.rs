//! Events on pods: what `kubectl describe pod` shows. Repetitions are counted, not repeated.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::node::MANAGER;

/// Events that wait to be written; beyond it they are dropped, as they are no part of any state.
const MAX_WAITING: usize = 1024;
/// Distinct events whose repetitions are recognised.
const MAX_KNOWN: usize = 4096;

/// What happened, to which pod and which of its containers.
#[derive(Debug, Clone)]
pub(super) struct Happening {
    pub(super) pod: ObjectReference,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) warning: bool,
    pub(super) at: Timestamp,
}

/// Takes events and returns at once; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Happening>,
}

impl Recorder {
    /// The recorder and the work behind it, which ends when all recorders are gone.
    pub(super) fn new(client: Client, host: String) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, happenings) = mpsc::channel(MAX_WAITING);
        (Self { queue }, write_all(client, host.into(), happenings))
    }

    pub(super) fn record(&self, happening: Happening) {
        if let Err(error) = self.queue.try_send(happening) {
            warn!(%error, "Event dropped");
        }
    }
}

/// A pod, or one of its containers, as events refer to it.
pub(super) fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let metadata = &pod.metadata;
    let is_init = |name: &str| {
        let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        init.into_iter().any(|container| container.name == name)
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: container.map(|name| {
            let list = if is_init(name) { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        }),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    field_path: Option<String>,
    reason: String,
    message: String,
}

struct Known {
    name: String,
    count: i32,
}

async fn write_all(client: Client, host: Arc<str>, mut happenings: mpsc::Receiver<Happening>) {
    let mut known: HashMap<Key, Known> = HashMap::new();
    let mut written = 0u64;
    while let Some(happening) = happenings.recv().await {
        let namespace = happening.pod.namespace.clone().unwrap_or_default();
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        let key = Key {
            uid: happening.pod.uid.clone(),
            field_path: happening.pod.field_path.clone(),
            reason: happening.reason.clone(),
            message: happening.message.clone(),
        };
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        if let Some(known) = known.get_mut(&key) {
            known.count += 1;
            let patch = serde_json::json!({"count": known.count, "lastTimestamp": Time(happening.at)});
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => continue,
                Err(error) => debug!(%error, "Event not counted up, written anew"),
            }
        }
        written += 1;
        let event = event(&happening, &host, written);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => drop(known.insert(key, Known { name: event.metadata.name.unwrap_or_default(), count: 1 })),
            Err(error) => debug!(%error, reason = happening.reason, "Event not written"),
        }
    }
}

fn event(happening: &Happening, host: &str, number: u64) -> Event {
    let pod = happening.pod.name.clone().unwrap_or_default();
    // Time and number together are unique to this agent, and the time to the agents before it.
    let suffix = format!("{:x}{:x}", Timestamp::now().as_nanosecond(), number);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{pod}.{suffix}")),
            namespace: happening.pod.namespace.clone(),
            ..Default::default()
        },
        involved_object: happening.pod.clone(),
        reason: Some(happening.reason.clone()),
        message: Some(happening.message.clone()),
        type_: Some(if happening.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(happening.at)),
        last_timestamp: Some(Time(happening.at)),
        source: Some(EventSource { component: Some(MANAGER.to_owned()), host: Some(host.to_owned()) }),
        reporting_component: Some(MANAGER.to_owned()),
        reporting_instance: Some(host.to_owned()),
        ..Default::default()
    }
}
