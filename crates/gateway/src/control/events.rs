//! Events: what is to be said of objects that have no conditions.
//!
//! An event is named after what it says, so that whoever says it once more, perhaps after a restart, says it in the same place.

use std::future::Future;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource as _};
use serde_json::json;
use sluice_model::fnv1a;
use sluice_route::Complaint;
use tokio::sync::mpsc;

use super::object::Whole;

const COMPONENT: &str = "sluice-gateway";
/// Events that wait to be written; beyond it they are dropped, as they are no part of any state.
const MAX_WAITING: usize = 1024;
/// The API takes no longer messages.
const MAX_MESSAGE: usize = 1024;

pub(crate) struct Events(mpsc::Sender<Event>);

impl Events {
    /// With the task that writes.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()>) {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        (Self(sender), write_all(client, waiting))
    }

    /// Warns whoever looks at this object.
    pub(crate) fn warn(&self, about: &ObjectReference, complaint: &Complaint) {
        if self.0.try_send(event(about, complaint, Timestamp::now())).is_err() {
            tracing::warn!(reason = complaint.reason, message = complaint.message, "Event dropped");
        }
    }
}

/// An object as events refer to it.
pub(crate) fn reference(object: &Whole, resource: super::object::Resource) -> ObjectReference {
    let metadata = &object.metadata;
    ObjectReference {
        api_version: Some(Whole::api_version(&resource).into_owned()),
        kind: Some(Whole::kind(&resource).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn event(about: &ObjectReference, Complaint { reason, message }: &Complaint, now: Timestamp) -> Event {
    let name = about.name.as_deref().unwrap_or_default();
    let words = [about.uid.as_deref().unwrap_or_default(), reason, message.as_str()].join("\n");
    let message = message.chars().scan(0, |bytes, c| {
        *bytes += c.len_utf8();
        (*bytes <= MAX_MESSAGE).then_some(c)
    });
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:08x}", fnv1a(words.as_bytes()))),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: about.clone(),
        reason: Some((*reason).to_owned()),
        message: Some(message.collect()),
        type_: Some("Warning".to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        ..Event::default()
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>) {
    while let Some(event) = waiting.recv().await {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::<Event>::namespaced(client.clone(), namespace);
        let mut written = api.create(&PostParams::default(), &event).await.map(drop);
        if matches!(&written, Err(kube::Error::Api(status)) if status.code == 409) {
            let name = event.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"lastTimestamp": event.last_timestamp});
            written = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop);
        }
        if let Err(error) = written {
            tracing::debug!(%error, reason = event.reason, "Event not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_after_what_it_says() {
        let about =
            |uid: &str| ObjectReference { name: Some("web".into()), uid: Some(uid.into()), ..Default::default() };
        let complaint = |message: &str| Complaint { reason: "NotServed", message: message.to_owned() };
        let name = |uid, message| event(&about(uid), &complaint(message), Timestamp::UNIX_EPOCH).metadata.name;
        assert_eq!(name("1", "a"), name("1", "a"));
        assert_ne!(name("1", "a"), name("1", "b"));
        assert_ne!(name("1", "a"), name("2", "a"));
        let long = event(&about("1"), &complaint(&"ä".repeat(2000)), Timestamp::UNIX_EPOCH);
        assert_eq!(long.message.map(|message| message.len()), Some(MAX_MESSAGE));
    }
}
