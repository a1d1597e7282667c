use serde_json::{Value, json};

use crate::town::{Town, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_one_is_gone() {
    let town = Town::new().await;
    let path = format!("{MAPS}/a");
    let mut held = config_map("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    town.post(MAPS, held).await.created();
    let marked = town.delete(&path, None).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let why = "object is being deleted: configmaps \"a\" already exists";
    town.post(MAPS, config_map("a", "2")).await.refused(409, why);
    town.merge(&path, json!({"metadata": {"finalizers": null}})).await.ok();
    town.get(&path).await.refused(404, "configmaps \"a\" not found");
}

#[tokio::test]
async fn a_bound_pod_is_told_of_its_end_before_it_comes() {
    let town = Town::new().await;
    let pods = "/api/v1/namespaces/ns/pods";
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = json!("n");
    town.post(pods, bound).await.created();
    let marked = town.delete(&format!("{pods}/p"), None).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(town.get(&format!("{pods}/p")).await.code, 200);
    town.delete(&format!("{pods}/p"), Some(json!({"gracePeriodSeconds": 0}))).await.ok();
    assert_eq!(town.get(&format!("{pods}/p")).await.code, 404);
}

#[tokio::test]
async fn the_propagation_policy_becomes_a_finalizer() {
    let town = Town::new().await;
    for (policy, finalizers) in
        [("Foreground", json!(["foregroundDeletion"])), ("Orphan", json!(["orphan"])), ("Background", Value::Null)]
    {
        town.post(MAPS, config_map("a", "1")).await.created();
        let path = format!("{MAPS}/a");
        let answer = town.delete(&path, Some(json!({"propagationPolicy": policy}))).await.ok();
        assert_eq!(answer["metadata"]["finalizers"], finalizers, "{policy}");
        town.merge(&path, json!({"metadata": {"finalizers": null}})).await;
        assert_eq!(town.get(&path).await.code, 404, "{policy}");
    }
}

#[tokio::test]
async fn preconditions_must_hold() {
    let town = Town::new().await;
    town.post(MAPS, config_map("a", "1")).await.created();
    let answer = town.delete(&format!("{MAPS}/a"), Some(json!({"preconditions": {"uid": "x"}}))).await;
    assert_eq!((answer.code, answer.body["details"]["kind"].as_str()), (409, Some("ConfigMap")));
    assert_eq!(town.get(&format!("{MAPS}/a")).await.code, 200);
}

#[tokio::test]
async fn a_collection_is_deleted_as_it_was_listed() {
    let town = Town::new().await;
    for name in ["a", "b"] {
        town.post(MAPS, config_map(name, name)).await.created();
    }
    let before = town.delete(&format!("{MAPS}?labelSelector=v=a"), None).await.ok();
    assert_eq!(before["items"].as_array().map(Vec::len), Some(1));
    let left = town.get(MAPS).await.ok();
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn nothing_new_comes_into_a_namespace_that_goes() {
    let town = Town::new().await;
    town.delete("/api/v1/namespaces/ns", None).await.ok();
    let why =
        "configmaps \"a\" is forbidden: unable to create new content in namespace ns because it is being terminated";
    town.post(MAPS, config_map("a", "1")).await.refused(403, why);
    let end = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": []}});
    town.put("/api/v1/namespaces/ns/finalize", end).await.ok();
    town.post(MAPS, config_map("a", "1")).await.refused(404, "namespaces \"ns\" not found");
}
