//! How a release takes hold of a workload. What decides knows of none of the ways.
//!
//! `embedded`: our own Deployment controller asks the Rollout for the sizes. On a cluster with Kubernetes' controllers another
//! way will stand beside it.

mod embedded;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use sluice_model::rollout::{Revision, Target};
use sluice_release::Fences;

use crate::Error;
pub(crate) use embedded::Embedded;

/// A way to see the versions of a workload and to size them.
pub(crate) trait Attach: Send + Sync {
    /// What is known of the workload; none when it does not exist.
    fn observe(&self, namespace: &str, target: &Target) -> Option<Workload>;

    /// Makes the workload take these sizes by `pod-template-hash`.
    fn resize<'a>(
        &'a self,
        namespace: &'a str,
        target: &'a Target,
        sizes: &'a BTreeMap<String, i32>,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

/// A workload and its versions.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) replicas: u32,
    /// The version that its template names; none while its ReplicaSet is not there.
    pub(crate) current: Option<Revision>,
    /// The workload's `metadata.generation`.
    pub(crate) generation: Option<i64>,
    pub(crate) versions: Vec<WorkloadVersion>,
    /// What the pods of its template are labelled with.
    pub(crate) labels: BTreeMap<String, String>,
    /// Where its containers listen first.
    pub(crate) port: Option<u16>,
    pub(crate) fences: Fences,
    pub(crate) progress_deadline: Duration,
    pub(crate) min_ready: Duration,
}

#[derive(Debug)]
pub(crate) struct WorkloadVersion {
    pub(crate) revision: Revision,
    pub(crate) size: u32,
    /// Pods that are not finished.
    pub(crate) pods: Vec<Arc<Pod>>,
}
