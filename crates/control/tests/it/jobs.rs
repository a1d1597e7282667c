//! Jobs from their first pod to their last condition, by the hand of a test that plays the programs.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::workload::Cluster;

fn is(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

async fn end_all(cluster: &Cluster, phase: &str) {
    let pods = cluster.api::<Pod>();
    for pod in pods.list(&ListParams::default()).await.unwrap().items.iter().filter(|pod| is_running(pod)) {
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_completes_and_lets_its_pods_go() {
    let cluster = Cluster::start().await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]}});
    let spec = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": template});
    cluster.create::<Job>(json!({"metadata": {"name": "sums"}, "spec": spec})).await;
    let two_run = |pods: &[Pod]| pods.iter().filter(|pod| is_running(pod)).count() == 2;
    cluster.expect::<Pod>("two pods", two_run).await;
    end_all(&cluster, "Succeeded").await;
    cluster.expect::<Pod>("a third pod", |pods| pods.iter().any(is_running)).await;
    cluster
        .expect::<Job>("two counted successes", |jobs| {
            jobs[0].status.as_ref().is_some_and(|status| status.completed_indexes.as_deref() == Some("0,1"))
        })
        .await;
    end_all(&cluster, "Succeeded").await;
    cluster.expect::<Job>("a complete Job", |jobs| is(&jobs[0], "Complete")).await;
    let status = cluster.api::<Job>().get("sums").await.unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(pods.len() == 3 && pods.iter().all(|pod| pod.finalizers().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_takes_its_other_pods_with_it() {
    let cluster = Cluster::start().await;
    let template = json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "work"}]}});
    let spec = json!({"completions": 2, "parallelism": 2, "backoffLimit": 0, "template": template});
    cluster.create::<Job>(json!({"metadata": {"name": "sums"}, "spec": spec})).await;
    cluster.expect::<Pod>("two pods", |pods| pods.iter().filter(|pod| is_running(pod)).count() == 2).await;
    let pods = cluster.api::<Pod>();
    let first = pods.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    pods.patch_status(&first, &PatchParams::default(), &failed).await.unwrap();
    cluster.expect::<Job>("a failed Job", |jobs| is(&jobs[0], "Failed")).await;
    let status = cluster.api::<Job>().get("sums").await.unwrap().status.unwrap();
    assert_eq!((status.failed, status.active, status.terminating), (Some(2), None, Some(0)));
    cluster.expect::<Pod>("only the failed pod", |pods| pods.len() == 1 && pods[0].name_any() == first).await;
    // Its pods go with the Job, though nobody counts them any more.
    cluster.api::<Job>().delete("sums", &DeleteParams::background()).await.unwrap();
    cluster.expect::<Pod>("no pod", <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_jobs_and_forgets_them() {
    let cluster = Cluster::start().await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "work"}]}});
    let spec = json!({"schedule": "@every 1s", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 0,
        "jobTemplate": {"spec": {"template": template}}});
    cluster.create::<CronJob>(json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    cluster.expect::<Pod>("a pod", |pods| pods.iter().any(is_running)).await;
    let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
    cluster.api::<CronJob>().patch("tick", &PatchParams::default(), &suspended).await.unwrap();
    end_all(&cluster, "Succeeded").await;
    cluster.expect::<Job>("no Job", <[_]>::is_empty).await;
    cluster
        .expect::<CronJob>("a success", |crons| {
            crons[0].status.as_ref().is_some_and(|it| it.last_successful_time.is_some() && it.active.is_none())
        })
        .await;
}
