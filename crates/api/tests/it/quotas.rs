//! Quotas and limit ranges, where many ask at once.

use serde_json::{Value, json};

use crate::town::{Town, config_map, pod};

const PODS: &str = "/api/v1/namespaces/ns/pods";
const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const QUOTAS: &str = "/api/v1/namespaces/ns/resourcequotas";

/// A quota that has been counted once, as its controller does.
async fn with_quota(town: &Town, hard: &Value) {
    let used: Value = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    town.post(QUOTAS, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await.created();
    town.merge(&format!("{QUOTAS}/q/status"), json!({"status": {"hard": hard, "used": used}})).await.ok();
}

async fn used(town: &Town) -> Value {
    town.get(&format!("{QUOTAS}/q")).await.ok()["status"]["used"].clone()
}

#[tokio::test]
async fn the_last_places_are_given_once_however_many_ask() {
    let town = Town::new().await;
    with_quota(&town, &json!({"pods": "5"})).await;
    let nameless = || {
        let mut pod = pod("x");
        pod["metadata"] = json!({"generateName": "x-"});
        pod
    };
    let answers = futures::future::join_all((0..40).map(|_| town.post(PODS, nameless()))).await;
    let created = answers.iter().filter(|answer| answer.code == 201).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.code == 403).collect();
    assert_eq!((created, refused.len()), (5, 35));
    let name = refused[0].body["details"]["name"].as_str().unwrap();
    assert!(name.len() > "x-".len(), "the refusal says the name that was made: {name}");
    let why =
        format!("pods {name:?} is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5");
    refused[0].refused(403, &why);
    assert_eq!(used(&town).await, json!({"pods": "5"}));
}

#[tokio::test]
async fn what_was_not_stored_is_not_counted() {
    let town = Town::new().await;
    with_quota(&town, &json!({"configmaps": "2"})).await;
    town.post(MAPS, config_map("a", "1")).await.created();
    town.post(MAPS, config_map("a", "1")).await.refused(409, "configmaps \"a\" already exists");
    town.post(&format!("{MAPS}?dryRun=All"), config_map("b", "1")).await.created();
    assert_eq!(used(&town).await, json!({"configmaps": "1"}));
    town.apply(&format!("{MAPS}/b"), "me", config_map("b", "1")).await.created();
    let why = "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: \
               configmaps=2";
    town.post(&format!("{MAPS}?dryRun=All"), config_map("c", "1")).await.refused(403, why);
}

#[tokio::test]
async fn pods_get_and_keep_what_the_limit_range_says() {
    let town = Town::new().await;
    let limits =
        json!([{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}, "max": {"cpu": "3"}}]);
    town.post("/api/v1/namespaces/ns/limitranges", json!({"metadata": {"name": "l"}, "spec": {"limits": limits}}))
        .await
        .created();
    let made = town.post(PODS, pod("a")).await.created();
    let given = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], given);
    let note = "LimitRanger plugin set: cpu request for container app; cpu limit for container app";
    assert_eq!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"], note);
    let mut big = pod("b");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "4"}});
    let why = "pods \"b\" is forbidden: maximum cpu usage per Container is 3, but limit is 4";
    town.post(PODS, big).await.refused(403, why);
}
