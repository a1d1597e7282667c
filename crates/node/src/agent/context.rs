//! What all pods of a node share.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::api::resource::Quantity};
use sluice_pod::pod_dir::PodDir;
use tokio::sync::{broadcast, watch};
use tracing::warn;

use super::{
    addresses::AddressPool,
    bounds::Means,
    drain::Gateways,
    driver_choice::Containers,
    events::{Happening, Recorder, reference},
    images::Images,
    network::PodNet,
    options::NodeOptions,
    pulls::Pulls,
    sources::Reference,
};

pub(super) struct Context {
    pub(super) client: kube::Client,
    pub(super) options: Arc<NodeOptions>,
    pub(super) images: Images,
    pub(super) pulls: Pulls,
    pub(super) addresses: AddressPool,
    pub(super) net: PodNet,
    pub(super) containers: Containers,
    /// What processes can be held to here.
    pub(super) means: Means,
    /// Where containers ask for names, if not where the machine asks.
    pub(super) cluster_dns: Option<Ipv4Addr>,
    pub(super) recorder: Recorder,
    pub(super) changes: broadcast::Sender<Reference>,
    pub(super) gateways: watch::Receiver<Gateways>,
    pub(super) host_ip: IpAddr,
    pub(super) allocatable: BTreeMap<String, Quantity>,
}

impl Context {
    pub(super) fn pod_dir(&self, uid: &str) -> PodDir {
        PodDir::new(self.options.pods_dir().join(uid))
    }

    /// A pod is gone: its address rests, its images may go, and its ports of the machine are nobody's.
    pub(super) async fn release(&self, uid: &str, address: Option<Ipv4Addr>) {
        self.pulls.forget(uid);
        if let Some(address) = address {
            self.addresses.release(address, Timestamp::now());
            self.net.addresses.release(address, Timestamp::now());
        }
        if let Err(error) = self.net.leave(uid).await {
            warn!(uid, %error, "Ports of the machine not withdrawn");
        }
    }

    pub(super) fn event(&self, pod: &Pod, reason: &str, message: &str) {
        self.happened(pod, None, reason, message, false, Timestamp::now());
    }

    pub(super) fn warning(&self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        self.happened(pod, container, reason, message, true, Timestamp::now());
    }

    pub(super) fn happened(
        &self,
        pod: &Pod,
        container: Option<&str>,
        reason: &str,
        message: &str,
        warning: bool,
        at: Timestamp,
    ) {
        self.recorder.record(Happening {
            pod: reference(pod, container),
            reason: reason.to_owned(),
            message: message.to_owned(),
            warning,
            at,
        });
    }
}
