//! The Lease in which this gateway says what every one of its workers serves. Whoever has to wait for the data plane reads it.
//!
//! It is announced before anything is read from the API: whoever withdrew a pod without waiting for this gateway did so before the
//! Lease was there, and what is listed after that knows of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Seen;
use super::object::Resource;
use super::peers::{ADDRESS, COMPONENT, Peers};
use crate::options::LEASE_NAMESPACE;

const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;
const RETRY: Duration = Duration::from_millis(200);
const MANAGER: &str = "sluice-gateway";

/// Resources whose acknowledged revision is told.
const TOLD: [Resource; 7] = [
    Resource::Pods,
    Resource::Rollouts,
    Resource::EndpointSlices,
    Resource::HttpRoutes,
    Resource::Ingresses,
    Resource::Services,
    Resource::Gateways,
];

/// The two annotations, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    revisions: String,
    draining: String,
}

impl Acknowledged {
    pub(crate) fn new(seen: &Seen, draining: &[Arc<str>]) -> Self {
        let revision = |resource: Resource| seen.get(&resource).copied().unwrap_or(0).to_string();
        let revisions: BTreeMap<&str, String> = TOLD.map(|resource| (resource.plural(), revision(resource))).into();
        let draining: Vec<&str> = draining.iter().map(AsRef::as_ref).collect();
        Self { revisions: json!(revisions).to_string(), draining: json!(draining).to_string() }
    }

    /// Nothing is served yet: whoever has to wait waits.
    fn nothing() -> Self {
        Self { revisions: "{}".to_owned(), draining: "[]".to_owned() }
    }
}

/// Who writes the Lease.
pub(crate) struct Holder {
    pub(crate) client: Client,
    pub(crate) instance: String,
    /// Tells this process from another one that calls itself the same.
    pub(crate) identity: String,
    /// Where Gateways without an address of their own are reached.
    pub(crate) address: IpAddr,
}

/// Announces the gateway, then writes the newest acknowledgement as it changes, one write at a time, and renews it. Says who else
/// there is. Ends with the loop.
pub(crate) async fn run(
    holder: Holder,
    mut newest: watch::Receiver<Option<Acknowledged>>,
    peers: watch::Sender<Option<Peers>>,
) {
    let mut looked: Option<Instant> = None;
    loop {
        let acknowledged = newest.borrow_and_update().clone();
        let acknowledged = acknowledged.unwrap_or_else(Acknowledged::nothing);
        let written = async {
            holder.write(&acknowledged).await?;
            if looked.is_none_or(|looked| looked.elapsed() >= RENEW) {
                let found = holder.peers().await?;
                looked = Some(Instant::now());
                peers.send_if_modified(|known| known.replace(found) != *known);
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, "Gateway Lease not written");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        // Another change, or time to renew.
        if let Ok(Err(_)) = timeout(RENEW, newest.changed()).await {
            return;
        }
    }
}

/// Gives the Lease back, so that nobody waits for this gateway any more.
pub(crate) async fn give_back(client: &Client, instance: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    match leases.delete(&name(instance), &DeleteParams::default()).await {
        Err(error) if !is(&error, 404) => tracing::warn!(%error, "Gateway Lease not given back"),
        _ => {}
    }
}

impl Holder {
    async fn write(&self, acknowledged: &Acknowledged) -> Result<(), Error> {
        let patch = self.lease(acknowledged);
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.leases().patch(&name(&self.instance), &parameters, &Patch::Merge(&patch)).await {
            Err(error) if is(&error, 404) => self.create(patch).await,
            written => written.map(drop),
        }
    }

    fn lease(&self, acknowledged: &Acknowledged) -> Value {
        json!({
            "metadata": {
                "labels": {COMPONENT.0: COMPONENT.1},
                "annotations": {
                    "sluice.dev/acknowledged": acknowledged.revisions,
                    "sluice.dev/draining": acknowledged.draining,
                    ADDRESS: self.address.to_string(),
                },
            },
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": DURATION_SECONDS,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        })
    }

    async fn create(&self, mut lease: Value) -> Result<(), Error> {
        lease["metadata"]["name"] = json!(name(&self.instance));
        let lease: Lease = serde_json::from_value(lease).map_err(Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.leases().create(&parameters, &lease).await {
            Err(error) if is(&error, 404) => {
                create_namespace(&self.client, &parameters).await?;
                self.leases().create(&parameters, &lease).await.map(drop)
            }
            created => created.map(drop),
        }
    }

    async fn peers(&self) -> Result<Peers, Error> {
        let selected = ListParams::default().labels(&format!("{}={}", COMPONENT.0, COMPONENT.1));
        let leases = self.leases().list(&selected).await?;
        let name = name(&self.instance);
        let mine = leases.iter().find(|lease| lease.metadata.name.as_deref() == Some(name.as_str()));
        let holder = mine.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        if let Some(other) = holder.filter(|holder| *holder != self.identity) {
            tracing::error!(
                instance = self.instance,
                other,
                "Two gateways have one name: nobody can wait for both of them"
            );
        }
        Ok(Peers::among(&leases.items, &name, Timestamp::now()))
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), LEASE_NAMESPACE)
    }
}

async fn create_namespace(client: &Client, parameters: &PostParams) -> Result<(), Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(LEASE_NAMESPACE.to_owned());
    match namespaces.create(parameters, &namespace).await {
        Err(error) if !is(&error, 409) => Err(error),
        _ => Ok(()),
    }
}

fn name(instance: &str) -> String {
    format!("gateway-{instance}")
}

fn is(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}
