//! StatefulSets, DaemonSets and ReplicationControllers over a real API, from the first pod to nothing.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::workload::Cluster;

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "db"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": image}]}})
}

/// Names and images of the pods that live, sorted.
fn living(pods: &[Pod]) -> String {
    let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let image = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    let mut words: Vec<_> = living.map(|pod| format!("{}={}", pod.name_any(), image(pod))).collect();
    words.sort();
    words.join(" ")
}

fn is_complete(sets: &[StatefulSet], replicas: i32) -> bool {
    let [set] = sets else { return false };
    let status = set.status.clone().unwrap_or_default();
    status.observed_generation == set.metadata.generation
        && [status.replicas, status.ready_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0)] == [replicas; 3]
        && status.current_revision == status.update_revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_its_places_and_claims() {
    let cluster = Cluster::start().await;
    let set = json!({
        "metadata": {"name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db:v1"),
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
        },
    });
    cluster.create::<StatefulSet>(set).await;
    cluster.expect("three pods, in the end", |sets| is_complete(sets, 3)).await;
    cluster.expect::<Pod>("their names", |pods| living(pods) == "db-0=db:v1 db-1=db:v1 db-2=db:v1").await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let mut in_order: Vec<_> = pods.iter().map(|pod| (pod.metadata.resource_version.clone(), pod.name_any())).collect();
    in_order.sort_by_key(|(revision, _)| revision.as_ref().and_then(|it| it.parse::<u64>().ok()));
    let in_order: Vec<_> = in_order.into_iter().map(|(_, name)| name).collect();
    assert_eq!(in_order, ["db-0", "db-1", "db-2"], "each was ready before the next was made");

    let sets = cluster.api::<StatefulSet>();
    let change = |spec: Value| Patch::Merge(json!({"spec": spec}));
    sets.patch("db", &PatchParams::default(), &change(json!({"template": template("db:v2")}))).await.unwrap();
    cluster.expect::<Pod>("the second version", |pods| living(pods) == "db-0=db:v2 db-1=db:v2 db-2=db:v2").await;
    cluster.expect("the update is complete", |sets| is_complete(sets, 3)).await;
    sets.patch("db", &PatchParams::default(), &change(json!({"template": template("db:v1")}))).await.unwrap();
    cluster.expect::<Pod>("the first version again", |pods| living(pods) == "db-0=db:v1 db-1=db:v1 db-2=db:v1").await;
    cluster
        .expect::<ControllerRevision>("two revisions, renumbered", |revisions| {
            let mut numbers: Vec<_> = revisions.iter().map(|it| it.revision).collect();
            numbers.sort_unstable();
            numbers == [2, 3]
        })
        .await;

    sets.patch("db", &PatchParams::default(), &change(json!({"replicas": 1}))).await.unwrap();
    cluster.expect::<Pod>("the lowest place is left", |pods| living(pods) == "db-0=db:v1").await;
    cluster.api::<Pod>().delete("db-0", &DeleteParams::default()).await.unwrap();
    cluster.expect("a new pod in the old place", |sets| is_complete(sets, 1)).await;

    sets.delete("db", &DeleteParams::background()).await.unwrap();
    cluster.expect::<Pod>("no pod is left", <[_]>::is_empty).await;
    cluster.expect::<ControllerRevision>("no revision is left", <[_]>::is_empty).await;
    cluster.expect::<PersistentVolumeClaim>("no claim is left", <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_is_a_replica_set_of_its_time() {
    let cluster = Cluster::start().await;
    let labels = json!({"app": "db"});
    let elder =
        json!({"metadata": {"name": "db"}, "spec": {"replicas": 2, "selector": labels, "template": template("db:v1")}});
    cluster.create::<ReplicationController>(elder).await;
    let ready = |elders: &[ReplicationController], count: i32| {
        elders.iter().filter_map(|it| it.status.clone()).any(|it| it.ready_replicas == Some(count))
    };
    cluster.expect("two ready pods", |elders| ready(elders, 2)).await;
    let elders = cluster.api::<ReplicationController>();
    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    elders.patch("db", &PatchParams::default(), &three).await.unwrap();
    cluster.expect("three ready pods", |elders| ready(elders, 3)).await;
    elders.delete("db", &DeleteParams::background()).await.unwrap();
    cluster.expect::<Pod>("no pod is left", <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_its_template_and_its_node() {
    let cluster = Cluster::start().await;
    let set = json!({"metadata": {"name": "log"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": template("log:v1")}});
    cluster.create::<DaemonSet>(set).await;
    let images = |pods: &[Pod]| living(pods).rsplit('=').next().unwrap_or_default().to_owned();
    let available = |sets: &[DaemonSet], count: Option<i32>| {
        let status = sets.first().and_then(|set| set.status.clone()).unwrap_or_default();
        status.number_available == count && status.updated_number_scheduled == count
    };
    cluster.expect("one pod on the one node", |sets| available(sets, Some(1))).await;
    let sets = cluster.api::<DaemonSet>();
    let change = |spec: Value| Patch::Merge(json!({"spec": spec}));
    sets.patch("log", &PatchParams::default(), &change(json!({"template": template("log:v2")}))).await.unwrap();
    cluster.expect::<Pod>("the second version", |pods| pods.len() == 1 && images(pods) == "log:v2").await;
    cluster.expect("the update is complete", |sets| available(sets, Some(1))).await;
    cluster.expect::<ControllerRevision>("two revisions", |revisions| revisions.len() == 2).await;
    let elsewhere = json!({"template": {"spec": {"nodeSelector": {"no": "such"}}}});
    sets.patch("log", &PatchParams::default(), &change(elsewhere)).await.unwrap();
    cluster.expect::<Pod>("the node is not for it any more", <[_]>::is_empty).await;
    cluster.expect("nothing is wanted", |sets| available(sets, None)).await;
}
