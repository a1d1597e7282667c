use serde_json::json;
use sluice_api::Identity;

use crate::town::Town;

#[tokio::test]
async fn every_known_user_may_do_everything_and_is_told_so() {
    let mut town = Town::new().await;
    town.user = Identity::user("jane", ["devs"]);
    let review = json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}});
    let answer = town.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).await.created();
    assert_eq!(answer["status"]["allowed"], true);
    let me = town.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await.created();
    assert_eq!(me["status"]["userInfo"], json!({"username": "jane", "groups": ["devs", "system:authenticated"]}));
}

#[tokio::test]
async fn discovery_is_one_document_or_many() {
    let town = Town::new().await;
    let groups = town.get("/apis").await.ok();
    assert_eq!(groups["kind"], "APIGroupList");
    let core = town.get("/api/v1").await.ok();
    let pods = core["resources"].as_array().and_then(|all| all.iter().find(|r| r["name"] == "pods"));
    assert_eq!(pods.map(|pods| pods["shortNames"].clone()), Some(json!(["po"])));
}

#[tokio::test]
async fn paths_that_name_nothing_say_so() {
    let town = Town::new().await;
    town.get("/apis/nope.example.com/v1").await.refused(404, "404 page not found\n");
    town.get("/api/v1/gadgets").await.refused(404, "the server could not find the requested resource");
    let why = "the server does not allow this method on the requested resource";
    town.post("/api/v1/namespaces/ns/pods/p", json!({})).await.refused(405, why);
}
