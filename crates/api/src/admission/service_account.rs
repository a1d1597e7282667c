//! Every pod runs as a service account of its namespace, and has a token of it where it wants one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_store::Entry;

use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::storage::Key;

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// A little more than an hour, so that a token asked for one hour is not renewed at once.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod waits for the default account of a namespace that was just made.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

pub(super) async fn admit(call: &Call, pod: &mut Value) -> Result<(), Refusal> {
    if !pod["metadata"]["annotations"][MIRROR].is_null() {
        return check_mirror(call, pod);
    }
    let asked = [pod.text("/spec/serviceAccountName"), pod.text("/spec/serviceAccount")];
    let name = asked.into_iter().find(|name| !name.is_empty()).unwrap_or(DEFAULT).to_owned();
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let Some(account) = find(call, &name).await else {
        let namespace = call.namespace();
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        return Err(Refusal::forbidden(call.kind(), pod.name(), why));
    };
    let account = account.value();
    let wants = pod["spec"]["automountServiceAccountToken"].as_bool();
    if wants.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(pod);
    }
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|list| !list.is_empty())
    {
        pod["spec"]["imagePullSecrets"] = json!(secrets);
    }
    Ok(())
}

/// The account. The default one is made by a controller, so a pod may come first.
async fn find(call: &Call, name: &str) -> Option<Arc<Entry>> {
    let storage = call.server.storage();
    let before = storage.progress();
    if let Some(found) = stored(call, name) {
        return Some(found);
    }
    if name != DEFAULT {
        return None;
    }
    let mut watch = storage.watch(&key(call, name).0, before).ok()?;
    // Whatever ends the wait, the store knows the truth.
    let _ = tokio::time::timeout(DEFAULT_WAIT, watch.next()).await;
    stored(call, name)
}

/// The account as it is now.
pub(super) fn stored(call: &Call, name: &str) -> Option<Arc<Entry>> {
    call.server.storage().get(&key(call, name))
}

fn key(call: &Call, name: &str) -> Key {
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("", "v1", "serviceaccounts").expect("service accounts are built in");
    Key::new(&kind, call.namespace(), name)
}

fn check_mirror(call: &Call, pod: &Value) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::forbidden(call.kind(), pod.name(), why));
    if !pod.text("/spec/serviceAccountName").is_empty() {
        return refuse("a mirror pod may not reference service accounts");
    }
    let volumes = pod["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if volumes.iter().any(|volume| !volume["secret"].is_null()) {
        return refuse("a mirror pod may not reference secrets");
    }
    let token = |volume: &Value| {
        let sources = volume["projected"]["sources"].as_array();
        sources.is_some_and(|list| list.iter().any(|source| !source["serviceAccountToken"].is_null()))
    };
    if volumes.iter().any(token) {
        return refuse("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Mounts the token into every container that has nothing of its own there.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", random::suffix());
    let mut used = false;
    for field in ["containers", "initContainers"] {
        for container in pod["spec"][field].as_array_mut().into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let own = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            container["volumeMounts"] = json!([mounts, vec![own]].concat());
            used = true;
        }
    }
    if used {
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        pod["spec"]["volumes"] = json!([volumes, vec![token_volume(&volume)]].concat());
    }
}

fn token_volume(name: &str) -> Value {
    let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]}})
}
