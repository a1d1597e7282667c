//! The kinds that the API serves and lets us list, watch and delete.

use std::time::Duration;

use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::discovery::{Discovery, Scope};
use kube::{Api, Client};
use tokio::sync::watch;

use super::Error;

/// Kinds come and go with definitions; each change is looked at after this long, once for many.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) resource: ApiResource,
    pub(super) is_namespaced: bool,
}

impl Kind {
    /// All objects of the kind in a namespace; of the whole cluster where it has none.
    pub(super) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.is_namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    pub(super) fn metadata_api(&self, client: &Client) -> Api<PartialObjectMeta<DynamicObject>> {
        Api::all_with(client.clone(), &self.resource)
    }

    /// `pods`, `deployments.apps`
    pub(super) fn plural(&self) -> String {
        let ApiResource { group, plural, .. } = &self.resource;
        if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") }
    }
}

/// Each kind once, in the version that the API prefers. Events own nothing and go by themselves.
pub(super) async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = Discovery::new(client.clone()).exclude(&["events.k8s.io"]).run().await?;
    let all = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    let kinds = all.filter(|(_, capabilities)| {
        ["list", "watch", "delete"].iter().all(|verb| capabilities.supports_operation(verb))
    });
    let kinds =
        kinds.map(|(resource, capabilities)| Kind { resource, is_namespaced: capabilities.scope == Scope::Namespaced });
    Ok(kinds.filter(|kind| kind.plural() != "events").collect())
}

/// Keeps the list of kinds up to date; `changed` says when to look again.
pub(super) async fn keep(client: Client, kinds: watch::Sender<Vec<Kind>>, mut changed: watch::Receiver<u64>) {
    loop {
        changed.mark_unchanged();
        match discover(&client).await {
            Ok(found) => {
                kinds.send_if_modified(|known| {
                    let is_new = *known != found;
                    *known = found;
                    is_new
                });
                if changed.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "The API's kinds are not known"),
        }
        tokio::time::sleep(SETTLE).await;
    }
}
