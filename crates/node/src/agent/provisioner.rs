//! Directories for claims: a volume is made below the data directory when the claim asks for one on this node, and removed
//! with everything in it once it is released, if it is to be deleted.

use std::{collections::VecDeque, fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Event, PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use sluice_pod::pod_dir::make_dir;
use tracing::{info, warn};

use super::options::NodeOptions;

/// What classes of such volumes name.
pub const PROVISIONER: &str = "sluice.dev/local-path";

const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Whoever runs in a pod may write to its volumes.
const VOLUME_MODE: u32 = 0o777;
/// A failed attempt is repeated after this time.
const RETRY: Duration = Duration::from_secs(2);
/// Attempts that wait; more of them are taken up by the next change.
const MAX_RETRIES: usize = 1024;

/// Why a volume was not made or removed; the text is that of an event.
#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error("volume mode {mode} is not supported by {PROVISIONER}")]
    Mode { mode: String },
    #[error("cannot make directory `{path}`: {source}")]
    Make { path: String, source: io::Error },
    #[error("cannot remove directory `{path}`: {source}")]
    Remove { path: String, source: io::Error },
    #[error("the API refused: {0}")]
    Api(#[from] kube::Error),
}

#[derive(Debug, Clone)]
enum Work {
    Provide(Box<PersistentVolumeClaim>),
    Remove(Box<PersistentVolume>),
}

/// Serves the claims and volumes of this node until it is dropped.
pub(super) async fn follow(client: Client, options: Arc<NodeOptions>) {
    let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .filter_map(|found| async { found.ok().map(Box::new).map(Work::Provide) });
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .filter_map(|found| async { found.ok().map(Box::new).map(Work::Remove) });
    let mut all = std::pin::pin!(futures::stream::select(claims, volumes));
    let mut failed: VecDeque<Work> = VecDeque::new();
    loop {
        let work = tokio::select! {
            work = all.next() => match work {
                Some(work) => work,
                None => return,
            },
            () = tokio::time::sleep(RETRY), if !failed.is_empty() => match failed.pop_front() {
                Some(work) => work,
                None => continue,
            },
        };
        if let Err(error) = carry_out(&client, &options, &work).await {
            warn!(%error, "Volume left as it is");
            if failed.len() < MAX_RETRIES {
                failed.push_back(work);
            }
        }
    }
}

async fn carry_out(client: &Client, options: &NodeOptions, work: &Work) -> Result<(), ProvisionError> {
    match work {
        Work::Provide(claim) if is_asked(claim, &options.node_name) => {
            let provided = provide(client, options, claim).await;
            if let Err(error) = &provided {
                tell(client, claim, true, "ProvisioningFailed", &format!("failed to provision volume: {error}")).await;
            }
            provided
        }
        Work::Remove(volume) if is_to_be_removed(volume, &options.volumes_dir()) => {
            remove(client, options, volume).await
        }
        Work::Provide(_) | Work::Remove(_) => Ok(()),
    }
}

/// Whether a claim wants its volume from us, and here.
fn is_asked(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let annotations = claim.annotations();
    annotations.get(ASKED).is_some_and(|asked| asked == PROVISIONER)
        && annotations.get(SELECTED_NODE).is_none_or(|selected| selected == node)
        && claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_deref().unwrap_or_default().is_empty())
        && claim.metadata.deletion_timestamp.is_none()
}

/// Only what was made by us, for its own name, and is of no use to anyone any more.
fn is_to_be_removed(volume: &PersistentVolume, volumes_dir: &Path) -> bool {
    let Some(spec) = &volume.spec else { return false };
    let path = spec.host_path.as_ref().map(|source| source.path.as_str());
    volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER)
        && spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete")
        && volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released")
        && path.is_some_and(|path| Path::new(path) == volumes_dir.join(volume.name_any()))
}

async fn provide(client: &Client, options: &NodeOptions, claim: &PersistentVolumeClaim) -> Result<(), ProvisionError> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
    let class = Api::<StorageClass>::all(client.clone()).get(&class).await?;
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.clone()).unwrap_or_default();
    if mode == "Block" {
        return Err(ProvisionError::Mode { mode });
    }
    let name = volume_name(claim);
    let directory = options.volumes_dir().join(&name);
    let failed = |source| ProvisionError::Make { path: directory.display().to_string(), source };
    if !directory.is_dir() {
        make_dir(&directory, VOLUME_MODE).map_err(failed)?;
        // Whatever the umask says.
        fs::set_permissions(&directory, fs::Permissions::from_mode(VOLUME_MODE)).map_err(failed)?;
    }
    let volume = serde_json::from_value(volume_for(claim, &class, &directory, &options.node_name))
        .expect("a volume of our own making is well-formed");
    match Api::<PersistentVolume>::all(client.clone()).create(&PostParams::default(), &volume).await {
        Ok(_) => {
            info!(volume = name, claim = claim.name_any(), "Volume made");
            tell(client, claim, false, "ProvisioningSucceeded", &format!("Successfully provisioned volume {name}"))
                .await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

fn volume_for(claim: &PersistentVolumeClaim, class: &StorageClass, directory: &Path, node: &str) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let size = spec.resources.and_then(|resources| resources.requests?.get("storage").cloned());
    json!({
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
                "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version()},
            "persistentVolumeReclaimPolicy": class.reclaim_policy,
            "storageClassName": class.name_any(),
            "mountOptions": class.mount_options,
            "hostPath": {"path": directory, "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}},
        },
    })
}

async fn remove(client: &Client, options: &NodeOptions, volume: &PersistentVolume) -> Result<(), ProvisionError> {
    let directory = options.volumes_dir().join(volume.name_any());
    let path = directory.display().to_string();
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(directory)).await;
    match removed.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(ProvisionError::Remove { path, source }),
        Ok(()) | Err(_) => {}
    }
    let same = Preconditions { uid: volume.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    match Api::<PersistentVolume>::all(client.clone()).delete(&volume.name_any(), &params).await {
        Ok(_) => {
            info!(volume = volume.name_any(), "Volume removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn tell(client: &Client, claim: &PersistentVolumeClaim, warning: bool, reason: &str, message: &str) {
    let namespace = claim.namespace().unwrap_or_default();
    let now = Timestamp::now();
    let time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": format!("{}.{:x}", claim.name_any(), now.as_nanosecond()), "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace,
            "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version()},
        "reason": reason, "message": message, "type": if warning { "Warning" } else { "Normal" },
        "source": {"component": PROVISIONER}, "reportingComponent": PROVISIONER,
        "firstTimestamp": time, "lastTimestamp": time, "count": 1,
    }))
    .expect("an event of our own making is well-formed");
    if let Err(error) =
        Api::<Event>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &event).await
    {
        // A namespace that is being deleted takes none.
        tracing::debug!(%error, reason, "Event refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(annotations: &Value, volume: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": volume,
                "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .expect("a claim")
    }

    #[test]
    fn only_claims_that_ask_here_get_a_volume() {
        assert!(is_asked(&claim(&json!({ASKED: PROVISIONER}), ""), "here"));
        assert!(is_asked(&claim(&json!({ASKED: PROVISIONER, SELECTED_NODE: "here"}), ""), "here"));
        assert!(!is_asked(&claim(&json!({ASKED: PROVISIONER, SELECTED_NODE: "there"}), ""), "here"));
        assert!(!is_asked(&claim(&json!({ASKED: "example.com/other"}), ""), "here"));
        assert!(!is_asked(&claim(&json!({}), ""), "here"));
        assert!(!is_asked(&claim(&json!({ASKED: PROVISIONER}), "some-volume"), "here"));
    }

    #[test]
    fn only_our_own_released_directories_are_removed() {
        let dir = Path::new("/data/volumes");
        let class = serde_json::from_value(
            json!({"metadata": {"name": "local-path"}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete"}),
        )
        .expect("a class");
        let made = volume_for(&claim(&json!({}), ""), &class, &dir.join("pvc-u"), "here");
        let check = |change: &[(&str, Value)]| {
            let mut volume = made.clone();
            volume["status"] = json!({"phase": "Released"});
            for (pointer, value) in change {
                *volume.pointer_mut(pointer).expect("a field") = value.clone();
            }
            is_to_be_removed(&serde_json::from_value(volume).expect("a volume"), dir)
        };
        assert!(check(&[]));
        assert!(!check(&[("/status/phase", json!("Bound"))]));
        assert!(!check(&[("/spec/persistentVolumeReclaimPolicy", json!("Retain"))]));
        assert!(!check(&[("/metadata/annotations", json!({}))]));
        assert!(!check(&[("/spec/hostPath/path", json!("/etc"))]));
        assert!(!check(&[("/spec/hostPath/path", json!("/data/volumes"))]));
        assert!(!check(&[("/metadata/name", json!(".."))]), "a name that is a way out");
    }
}
