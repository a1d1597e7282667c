//! Quotas over a real API: what controllers make is bounded, and what goes makes room.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::workload::Cluster;

/// What the only quota says is used of this.
fn used(quotas: &[ResourceQuota], name: &str) -> Option<String> {
    let [quota] = quotas else { return None };
    quota.status.as_ref()?.used.as_ref()?.get(name).map(|amount| amount.0.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_bounds_what_controllers_make_and_is_given_back() {
    let cluster = Cluster::start().await;
    cluster.create::<ConfigMap>(json!({"metadata": {"name": "a"}})).await;
    let hard = json!({"pods": "2", "count/replicasets.apps": "1", "configmaps": "10"});
    cluster.create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    // One of the test, one that every namespace has.
    cluster.expect("what was there before", |quotas| used(quotas, "configmaps").as_deref() == Some("2")).await;
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "web:v1"}]}});
    let set = json!({"metadata": {"name": "web"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    cluster.create::<ReplicaSet>(set).await;
    cluster
        .expect::<ReplicaSet>("two of four pods, and why", |sets| {
            let [set] = sets else { return false };
            let status = set.status.clone().unwrap_or_default();
            let failure = status.conditions.iter().flatten().any(|it| it.type_ == "ReplicaFailure");
            status.replicas == 2 && failure
        })
        .await;
    cluster.expect("two pods counted", |quotas| used(quotas, "pods").as_deref() == Some("2")).await;
    cluster.expect("one set counted", |quotas| used(quotas, "count/replicasets.apps").as_deref() == Some("1")).await;
    let fewer = Patch::Merge(json!({"spec": {"replicas": 1}}));
    cluster.api::<ReplicaSet>().patch("web", &PatchParams::default(), &fewer).await.unwrap();
    cluster.expect::<Pod>("one pod", |pods| pods.len() == 1).await;
    cluster.expect("one pod counted", |quotas| used(quotas, "pods").as_deref() == Some("1")).await;
    cluster.api::<ReplicaSet>().delete("web", &DeleteParams::background()).await.unwrap();
    cluster.expect("no set counted", |quotas| used(quotas, "count/replicasets.apps").as_deref() == Some("0")).await;
    cluster.expect("no pod counted", |quotas| used(quotas, "pods").as_deref() == Some("0")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_secrets_are_filled_and_go_with_their_account() {
    let cluster = Cluster::start().await;
    cluster.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}})).await;
    for (name, account) in [("full", "robot"), ("lost", "nobody")] {
        let metadata = json!({"name": name, "annotations": {"kubernetes.io/service-account.name": account}});
        let secret = json!({"metadata": metadata, "type": "kubernetes.io/service-account-token"});
        cluster.create::<Secret>(secret).await;
    }
    let has_token = |secret: &Secret| secret.data.as_ref().is_some_and(|data| data.contains_key("token"));
    cluster
        .expect::<Secret>("the one of an account, with its token", |secrets| {
            matches!(secrets, [secret] if secret.metadata.name.as_deref() == Some("full") && has_token(secret))
        })
        .await;
    cluster.api::<ServiceAccount>().delete("robot", &DeleteParams::default()).await.unwrap();
    cluster.expect::<Secret>("none", <[Secret]>::is_empty).await;
}
