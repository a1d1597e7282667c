use serde_json::json;

use crate::town::{Town, config_map, pod, revision};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let town = Town::new().await;
    let made = town.post(MAPS, config_map("a", "1")).await.created();
    let same = town.merge(&format!("{MAPS}/a"), json!({"data": {"v": "1"}})).await.ok();
    assert_eq!(revision(&same), revision(&made));
    let changed = town.merge(&format!("{MAPS}/a"), json!({"data": {"v": "2"}})).await.ok();
    assert_ne!(revision(&changed), revision(&made));
    assert_eq!(town.get(&format!("{MAPS}/a")).await.ok(), changed);
}

#[tokio::test]
async fn a_stale_revision_is_refused_and_nothing_is_stored() {
    let town = Town::new().await;
    let first = town.post(MAPS, config_map("a", "1")).await.created();
    town.merge(&format!("{MAPS}/a"), json!({"data": {"v": "2"}})).await.ok();
    let mut late = first;
    late["data"]["v"] = json!("late");
    let why = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
               to the latest version and try again";
    town.put(&format!("{MAPS}/a"), late).await.refused(409, why);
    assert_eq!(town.get(&format!("{MAPS}/a")).await.ok()["data"]["v"], "2");
}

#[tokio::test]
async fn concurrent_patches_of_one_object_all_arrive() {
    let town = Town::new().await;
    town.post(MAPS, config_map("a", "1")).await.created();
    let path = format!("{MAPS}/a");
    let patches = (0..32).map(|n| town.merge(&path, json!({"data": {format!("k{n}"): "x"}})));
    futures::future::join_all(patches).await.into_iter().for_each(|answer| drop(answer.ok()));
    let fields = town.get(&path).await.ok()["data"].as_object().map(serde_json::Map::len);
    assert_eq!(fields, Some(33));
}

#[tokio::test]
async fn a_dry_run_shows_the_result_and_stores_nothing() {
    let town = Town::new().await;
    let shown = town.post(&format!("{MAPS}?dryRun=All"), config_map("a", "1")).await.created();
    assert!(shown["metadata"]["uid"].is_string() && shown["metadata"]["resourceVersion"].is_null());
    town.get(&format!("{MAPS}/a")).await.refused(404, "configmaps \"a\" not found");
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_ignored() {
    let town = Town::new().await;
    let body = json!({"metadata": {"name": "a"}, "dada": {}});
    let why =
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dada\"";
    town.post(&format!("{MAPS}?fieldValidation=Strict"), body.clone()).await.refused(400, why);
    let warned = town.post(&format!("{MAPS}?dryRun=All"), body.clone()).await;
    assert_eq!(warned.warnings, [r#"299 - "unknown field \"dada\"""#]);
    let silent = town.post(&format!("{MAPS}?fieldValidation=Ignore"), body).await;
    assert_eq!((silent.code, silent.warnings.len()), (201, 0));
}

#[tokio::test]
async fn appliers_own_their_fields_and_meet_in_conflicts() {
    let town = Town::new().await;
    let path = format!("{MAPS}/a");
    town.apply(&path, "one", config_map("a", "1")).await.created();
    let answer = town.apply(&path, "two", config_map("a", "2")).await;
    assert_eq!(answer.code, 409);
    assert_eq!(answer.body["details"]["causes"][0]["message"], "conflict with \"one\"");
    town.apply(&path, "two", json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"w": "1"}})).await.ok();
}

#[tokio::test]
async fn pods_get_an_account_a_token_tolerations_and_a_priority() {
    let town = Town::new().await;
    let made = town.post("/api/v1/namespaces/ns/pods", pod("p")).await.created();
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(spec["priority"], 0);
    assert_eq!(made["status"]["phase"], "Pending");
}

#[tokio::test]
async fn services_get_addresses_of_their_own_and_give_them_back() {
    let town = Town::new().await;
    let path = "/api/v1/namespaces/ns/services";
    let service = |name: &str, address: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "type": "NodePort", "ports": [{"port": 80}]}});
    let first = town.post(path, service("a", "")).await.created();
    let address = first["spec"]["clusterIP"].as_str().expect("it has an address").to_owned();
    let port = first["spec"]["ports"][0]["nodePort"].as_u64().expect("it has a port");
    assert!(address.starts_with("10.") && (30_000..=32_767).contains(&port));
    let why = format!(
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: \
         provided IP is already allocated"
    );
    town.post(path, service("b", &address)).await.refused(422, &why);
    town.delete(&format!("{path}/a"), None).await.ok();
    town.post(path, service("b", &address)).await.created();
}

#[tokio::test]
async fn generated_names_begin_with_their_prefix() {
    let town = Town::new().await;
    let made = town.post(MAPS, json!({"metadata": {"generateName": "g-"}})).await.created();
    let name = made["metadata"]["name"].as_str().expect("it has a name");
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let town = Town::new().await;
    let big = json!({"metadata": {"name": "a"}, "data": {"v": "x".repeat(3 << 20)}});
    town.post(MAPS, big).await.refused(413, "Request entity too large: limit is 3145728");
}
