//! Finds a node for each pod that has none, those of higher priority first. Made for one machine: it takes the first node
//! that fits, prefers none, and drives no pod away for another.

mod claims;
mod company;
mod fit;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, PersistentVolumeClaim, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};

use self::claims::Claims;
use self::fit::Misfit;
pub(super) use self::fit::{selects, taints, tolerates};
use super::apply::{self, Part};
use super::events::Events;
use super::informer::{Change, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::time::time;
use super::world::World;
use super::{Error, pod, volumes};

const NAME: &str = "default-scheduler";
const SCHEDULED: &str = "PodScheduled";

pub(super) struct Scheduler {
    world: Arc<World>,
    events: Events,
}

/// Queues pods that wait for a node: when they come, and all of them when a node changes or a pod makes room.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let (to, pods) = (Arc::clone(queue), Arc::clone(&world.pods));
    world.pods.listen(move |change: Change<'_, Pod>| {
        if let Some(pod) = change.new.filter(|pod| is_waiting(pod)) {
            to.add(Key::of(&**pod));
        }
        let had_room = change.old.is_some_and(|pod| node_name(pod).is_some() && !pod::is_finished(pod));
        let makes_room = had_room && change.new.is_none_or(|pod| pod::is_finished(pod));
        if makes_room {
            add_waiting(&to, &pods.all());
        }
    });
    let (to, pods) = (Arc::clone(queue), Arc::clone(&world.pods));
    world.claims.listen(move |change: Change<'_, PersistentVolumeClaim>| {
        let Some(claim) = change.new else { return };
        let mut waiting = pods.in_namespace(&claim.namespace().unwrap_or_default());
        waiting.retain(|pod| volumes::claims_of(pod).any(|name| name == claim.name_any()));
        add_waiting(&to, &waiting);
    });
    let (to, pods) = (Arc::clone(queue), Arc::clone(&world.pods));
    world.nodes.listen(move |change: Change<'_, Node>| {
        let matters = |node: &Node| {
            let status = node.status.clone().unwrap_or_default();
            (node.spec.clone(), node.metadata.labels.clone(), status.allocatable, fit::is_ready(node))
        };
        if change.new.map(|node| matters(node)) != change.old.map(|node| matters(node)) {
            add_waiting(&to, &pods.all());
        }
    });
}

fn add_waiting(to: &Queue, pods: &[Arc<Pod>]) {
    pods.iter().filter(|pod| is_waiting(pod)).for_each(|pod| to.add(Key::of(&**pod)));
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// It has no node, asks for us, and nothing holds it back.
fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    node_name(pod).is_none()
        && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod::is_active(pod)
}

/// What came of a look for a node.
#[derive(Debug, PartialEq, Eq)]
enum Placed {
    Bound,
    /// Its claims get their volumes first.
    Awaiting,
    /// Why there is none.
    Nowhere(String),
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Pods that wait and come before those of this priority: the most urgent first, of one priority the oldest.
fn more_urgent(pods: &[Arc<Pod>], than: i32) -> Vec<&Arc<Pod>> {
    let mut before: Vec<_> = pods.iter().filter(|pod| priority(pod) > than && is_waiting(pod)).collect();
    before.sort_by_key(|pod| (std::cmp::Reverse(priority(pod)), pod.metadata.creation_timestamp.clone()));
    before
}

fn pods_by_node(pods: &[Arc<Pod>]) -> HashMap<String, Vec<Arc<Pod>>> {
    let mut by_node: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
    for pod in pods {
        if let Some(node) = node_name(pod).filter(|_| !pod::is_finished(pod)) {
            by_node.entry(node.to_owned()).or_default().push(Arc::clone(pod));
        }
    }
    by_node
}

impl Scheduler {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(NAME);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(pod) = self.world.pods.get(&key).filter(|pod| is_waiting(pod)) else { return Ok(None) };
        let nodes = self.world.nodes.all();
        let pods = self.world.pods.all();
        let on_node = pods_by_node(&pods);
        for before in more_urgent(&pods, priority(&pod)) {
            if self.place(before, &nodes, &on_node).await? == Placed::Bound {
                // What is left after that one is seen by another pass.
                return Ok(Some(Duration::ZERO));
            }
        }
        match self.place(&pod, &nodes, &on_node).await? {
            Placed::Bound | Placed::Awaiting => Ok(None),
            Placed::Nowhere(message) => {
                tracing::debug!(%key, message, "Pod waits");
                self.refuse(&pod, message).await
            }
        }
    }

    /// Binds the pod to the first node that fits, or its claims first; otherwise says why none does.
    async fn place(
        &self,
        pod: &Arc<Pod>,
        nodes: &[Arc<Node>],
        on_node: &HashMap<String, Vec<Arc<Pod>>>,
    ) -> Result<Placed, Error> {
        let mut misfits: Vec<Misfit> = Vec::new();
        let claims = claims::of(&self.world, pod);
        let labels = |name: &str| self.namespace_labels(name);
        for node in nodes.iter().filter(|node| !is_deleted(&***node)) {
            let neighbours = on_node.get(&node.name_any()).map(Vec::as_slice).unwrap_or_default();
            match fit::check(pod, node, neighbours, &labels) {
                Ok(()) => match &claims {
                    Claims::Ready => return self.bind(pod, &node.name_any()).await.map(|()| Placed::Bound),
                    Claims::Following(claims) => {
                        let selected = claims::select_node(&self.world, claims, &node.name_any()).await;
                        return selected.map(|()| Placed::Awaiting);
                    }
                    Claims::Missing(_) => {}
                },
                Err(mut reasons) => misfits.append(&mut reasons),
            }
        }
        Ok(Placed::Nowhere(match claims {
            Claims::Missing(reason) => format!("0/{} nodes are available: {reason}. not found", nodes.len()),
            Claims::Ready | Claims::Following(_) => fit::explain(nodes.len(), &misfits),
        }))
    }

    fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let namespace = self.world.namespaces.get(&Key::new("", name));
        namespace.map(|namespace| namespace.labels().clone()).unwrap_or_default()
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let binding = Binding {
            metadata: ObjectMeta { name: Some(name.clone()), uid: pod.uid(), ..ObjectMeta::default() },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        post_binding(&self.world.client, &namespace, &name, &binding).await?;
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        self.events.acted(pod, "Scheduled", "Binding", message);
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), &namespace);
        if let Some(bound) = pods.get_opt(&name).await? {
            self.world.pods.has_seen(&bound).await?;
        }
        Ok(())
    }

    async fn refuse(&self, pod: &Arc<Pod>, message: String) -> Result<Wake, Error> {
        if pod::condition(pod, SCHEDULED).is_some_and(|said| said.message.as_deref() == Some(&message)) {
            return Ok(None);
        }
        self.events.acted_in_vain(&**pod, "FailedScheduling", "Scheduling", message.clone());
        let mut refused = (**pod).clone();
        let status = refused.status.get_or_insert_with(PodStatus::default);
        let conditions = status.conditions.get_or_insert_default();
        let since = conditions.iter().find(|it| it.type_ == SCHEDULED && it.status == "False");
        let since = since.and_then(|it| it.last_transition_time.clone());
        let condition = PodCondition {
            type_: SCHEDULED.to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some(message),
            observed_generation: pod.metadata.generation,
            last_transition_time: since.or_else(|| Some(time(Timestamp::now()))),
            last_probe_time: None,
        };
        conditions.retain(|it| it.type_ != SCHEDULED);
        conditions.push(condition);
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), &pod.namespace().unwrap_or_default());
        apply::update(&pods, &self.world.pods, Part::Status, &**pod, &refused).await?;
        Ok(None)
    }
}

/// The answer is a Status, which `Api::create_subresource` would take for a Binding.
async fn post_binding(client: &Client, namespace: &str, name: &str, binding: &Binding) -> Result<(), Error> {
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(apply::to_json(binding).to_string().into_bytes())
        .expect("names of objects make a path");
    client.request_text(request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urgent_pods_come_first_and_old_ones_before_young_ones() {
        let pod = |name: &str, priority: i32, second: i32, node: &str| {
            let created = format!("2026-01-01T00:00:{second:02}Z");
            let spec = json!({"containers": [], "priority": priority, "nodeName": node});
            let metadata = json!({"name": name, "creationTimestamp": created});
            Arc::new(serde_json::from_value::<Pod>(json!({"metadata": metadata, "spec": spec})).unwrap())
        };
        let pods = [
            pod("young", 5, 2, ""),
            pod("old", 5, 1, ""),
            pod("first", 9, 3, ""),
            pod("low", 1, 0, ""),
            pod("runs", 9, 0, "n"),
        ];
        let names = |than: i32| more_urgent(&pods, than).iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(1), "first old young");
        assert_eq!(names(5), "first");
        assert_eq!(names(9), "");
    }
}
