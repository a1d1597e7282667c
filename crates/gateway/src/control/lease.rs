//! The Lease in which this gateway says what every one of its workers serves. Whoever has to wait for the data plane reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Seen;
use super::object::Resource;
use crate::options::LEASE_NAMESPACE;

const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;
const RETRY: Duration = Duration::from_millis(200);
const MANAGER: &str = "sluice-gateway";

/// Resources whose acknowledged revision is told.
const TOLD: [Resource; 6] = [
    Resource::Pods,
    Resource::Rollouts,
    Resource::EndpointSlices,
    Resource::HttpRoutes,
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

    fn patch(&self, instance: &str) -> Value {
        json!({
            "metadata": {
                "labels": {"sluice.dev/component": "gateway"},
                "annotations": {"sluice.dev/acknowledged": self.revisions, "sluice.dev/draining": self.draining},
            },
            "spec": {
                "holderIdentity": instance,
                "leaseDurationSeconds": DURATION_SECONDS,
                "renewTime": format!("{:.6}", Timestamp::now()),
            },
        })
    }
}

/// Writes the newest acknowledgement as it changes, one write at a time, and renews it. Ends with the loop.
pub(crate) async fn run(client: Client, instance: String, mut newest: watch::Receiver<Option<Acknowledged>>) {
    loop {
        let acknowledged = newest.borrow_and_update().clone();
        if let Some(acknowledged) = acknowledged
            && let Err(error) = write(&client, &instance, &acknowledged).await
        {
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

async fn write(client: &Client, instance: &str, acknowledged: &Acknowledged) -> Result<(), Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let patch = acknowledged.patch(instance);
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match leases.patch(&name(instance), &parameters, &Patch::Merge(&patch)).await {
        Err(error) if is(&error, 404) => create(client, &leases, instance, patch).await,
        written => written.map(drop),
    }
}

async fn create(client: &Client, leases: &Api<Lease>, instance: &str, mut lease: Value) -> Result<(), Error> {
    lease["metadata"]["name"] = json!(name(instance));
    let lease: Lease = serde_json::from_value(lease).map_err(Error::SerdeError)?;
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match leases.create(&parameters, &lease).await {
        Err(error) if is(&error, 404) => {
            create_namespace(client, &parameters).await?;
            leases.create(&parameters, &lease).await.map(drop)
        }
        created => created.map(drop),
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
