//! Ends pods that wait for a node which does not exist: nobody else would, and their namespace could never go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::error::status_code;
use super::informer::{Change, Key};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, apply};

/// A node that comes back within this time ends its pods itself.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(super) struct Strays {
    world: Arc<World>,
}

/// Queues pods once they are told to end.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.pods.listen(move |change: Change<'_, Pod>| {
        if let Some(pod) = change.new.filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
            to.add(Key::of(&**pod));
        }
    });
}

impl Strays {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(pod) = self.world.pods.get(&key) else { return Ok(None) };
        let Some(due) = pod.metadata.deletion_timestamp.clone() else { return Ok(None) };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        if self.world.nodes.get(&Key::new("", node.clone())).is_some() {
            return Ok(None);
        }
        let passed = Duration::try_from(Timestamp::now().duration_since(due.0)).unwrap_or_default();
        if passed < QUARANTINE {
            return Ok(Some(QUARANTINE - passed));
        }
        tracing::info!(%key, node, "Pod of an unknown node ended");
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), &key.namespace);
        let now = apply::only(&*pod).grace_period(0);
        match pods.delete(&key.name, &now).await {
            Ok(_) => Ok(None),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
