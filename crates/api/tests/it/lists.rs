use serde_json::json;

use crate::town::{Town, config_map, revision};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

async fn with_maps(names: &[&str]) -> Town {
    let town = Town::new().await;
    for name in names {
        town.post(MAPS, config_map(name, "1")).await.created();
    }
    town
}

fn names(list: &serde_json::Value) -> String {
    let items = list["items"].as_array().expect("a list has items").iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn pages_show_one_state_whatever_happens_meanwhile() {
    let town = with_maps(&["a", "b", "c", "d"]).await;
    let first = town.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), "a b");
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    town.delete(&format!("{MAPS}/c"), None).await.ok();
    town.post(MAPS, config_map("e", "1")).await.created();
    let token = first["metadata"]["continue"].as_str().expect("there is more");
    let second = town.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!((names(&second).as_str(), revision(&second)), ("c d", revision(&first)));
    assert!(second["metadata"]["continue"].is_null());
}

#[tokio::test]
async fn selectors_choose_and_say_nothing_of_the_rest() {
    let town = with_maps(&["a", "b", "c"]).await;
    town.merge(&format!("{MAPS}/b"), json!({"metadata": {"labels": {"v": "2"}}})).await.ok();
    assert_eq!(names(&town.get(&format!("{MAPS}?labelSelector=v!=2")).await.ok()), "a c");
    assert_eq!(names(&town.get(&format!("{MAPS}?fieldSelector=metadata.name=c")).await.ok()), "c");
    let page = town.get(&format!("{MAPS}?labelSelector=v=1&limit=1")).await.ok();
    assert_eq!(names(&page), "a");
    assert!(page["metadata"]["continue"].is_string() && page["metadata"]["remainingItemCount"].is_null());
}

#[tokio::test]
async fn items_of_lists_go_without_their_kind() {
    let town = with_maps(&["a"]).await;
    let list = town.get(MAPS).await.ok();
    assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("ConfigMapList"), Some("v1")));
    assert!(list["items"][0]["kind"].is_null() && list["items"][0]["data"]["v"] == "1");
}

#[tokio::test]
async fn the_past_can_be_listed_and_the_future_cannot() {
    let town = with_maps(&["a"]).await;
    let before = revision(&town.get(MAPS).await.ok());
    town.post(MAPS, config_map("b", "1")).await.created();
    let past = town.get(&format!("{MAPS}?resourceVersion={before}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(names(&past), "a");
    let future = town.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(future.code, 504);
    assert_eq!(future.body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}
