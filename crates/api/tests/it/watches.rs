use serde_json::json;

use crate::town::{Town, config_map, revision};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn a_watch_replays_what_happened_since_its_revision() {
    let town = Town::new().await;
    let start = revision(&town.get(MAPS).await.ok());
    town.post(MAPS, config_map("a", "1")).await.created();
    town.merge(&format!("{MAPS}/a"), json!({"data": {"v": "2"}})).await.ok();
    let mut events = town.watch(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    assert_eq!(events.told().await, "ADDED a");
    assert_eq!(events.told().await, "MODIFIED a");
    town.delete(&format!("{MAPS}/a"), None).await.ok();
    assert_eq!(events.told().await, "DELETED a");
}

#[tokio::test]
async fn the_state_comes_first_and_a_mark_ends_it() {
    let town = Town::new().await;
    town.post(MAPS, config_map("a", "1")).await.created();
    let query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut events = town.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.told().await, "ADDED a");
    let mark = events.next().await.expect("the mark comes");
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    town.post(MAPS, config_map("b", "1")).await.created();
    assert_eq!(events.told().await, "ADDED b");
}

#[tokio::test]
async fn entering_and_leaving_a_selector_are_creation_and_deletion() {
    let town = Town::new().await;
    let start = revision(&town.get(MAPS).await.ok());
    let mut events = town.watch(&format!("{MAPS}?watch=true&labelSelector=v=2&resourceVersion={start}")).await;
    town.post(MAPS, config_map("a", "1")).await.created();
    town.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"v": "2"}}})).await.ok();
    assert_eq!(events.told().await, "ADDED a");
    let left = town.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"v": "3"}}})).await.ok();
    let event = events.next().await.expect("the watch goes on");
    assert_eq!((event["type"].as_str(), revision(&event["object"])), (Some("DELETED"), revision(&left)));
    assert_eq!(event["object"]["metadata"]["labels"]["v"], "2");
}

#[tokio::test]
async fn what_was_before_the_server_is_too_old() {
    let town = Town::new().await;
    let mut events = town.watch(&format!("{MAPS}?watch=true&resourceVersion=1")).await;
    let event = events.next().await.expect("the reason comes");
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let town = Town::new().await;
    let mut events = town.watch(&format!("{MAPS}?watch=true")).await;
    town.server.stop();
    assert_eq!(events.next().await, None);
}
