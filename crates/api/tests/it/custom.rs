use serde_json::{Value, json};

use crate::town::Town;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/ns/widgets";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "default": 3, "maximum": 9}}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_definition_is_served_as_soon_as_it_is_created() {
    let town = Town::new().await;
    town.post(DEFINITIONS, definition()).await.created();
    let made = town.post(WIDGETS, widget("w", &json!({"other": 1}))).await;
    assert_eq!(made.warnings, [r#"299 - "unknown field \"spec.other\"""#]);
    assert_eq!(made.created()["spec"], json!({"size": 3}));
    let refused = town.post(WIDGETS, widget("x", &json!({"size": 10}))).await;
    assert_eq!((refused.code, refused.body["details"]["causes"][0]["field"].as_str()), (422, Some("spec.size")));
    let group = town.get("/apis/example.com/v1").await.ok();
    assert_eq!(group["resources"][0]["name"], "widgets");
    assert_eq!(town.get("/openapi/v3/apis/example.com/v1").await.code, 200);
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let town = Town::new().await;
    town.post(DEFINITIONS, definition()).await.created();
    let mut held = widget("held", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    town.post(WIDGETS, held).await.created();
    town.post(WIDGETS, widget("free", &json!({}))).await.created();
    let path = format!("{DEFINITIONS}/widgets.example.com");
    town.delete(&path, None).await.ok();
    assert_eq!(town.get(&format!("{WIDGETS}/free")).await.code, 404);
    let why =
        "widgets.example.com \"new\" is forbidden: create not allowed while custom resource definition is terminating";
    town.post(WIDGETS, widget("new", &json!({}))).await.refused(403, why);
    town.merge(&format!("{WIDGETS}/held"), json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(town.get(&path).await.code, 404);
    town.get(WIDGETS).await.refused(404, "404 page not found\n");
}

/// What two servers write differently: who and when.
fn without_identity(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().expect("objects have metadata");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        metadata.remove(field);
    }
    strip_times(&mut object);
    object
}

fn strip_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "time" && name != "lastTransitionTime");
            fields.values_mut().for_each(strip_times);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_times),
        _ => {}
    }
}

#[tokio::test]
async fn installed_definitions_are_those_that_an_apply_makes() {
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let (installed, applied) = (Town::new().await, Town::new().await);
    installed.server.install_definitions("engine", &[definition()]).await.expect("the definition is valid");
    applied.apply(&path, "engine", definition()).await.created();
    let of = async |town: &Town| without_identity(town.get(&path).await.ok());
    assert_eq!(of(&installed).await, of(&applied).await);
    installed.post(WIDGETS, widget("w", &json!({}))).await.created();
}

#[tokio::test]
async fn an_installed_definition_leaves_a_name_to_whom_it_belongs() {
    let town = Town::new().await;
    let mut second = definition();
    second["metadata"]["name"] = json!("gadgets.example.com");
    second["spec"]["names"] = json!({"plural": "gadgets", "kind": "Widget"});
    town.server.install_definitions("engine", &[definition(), second]).await.expect("the definitions are valid");
    let stored = town.get(&format!("{DEFINITIONS}/gadgets.example.com")).await.ok();
    let condition = |name: &str| {
        let all = stored["status"]["conditions"].as_array().into_iter().flatten();
        all.filter(|c| c["type"] == name).map(|c| c["reason"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (condition("NamesAccepted"), condition("Established")),
        (vec![json!("ListKindConflict")], vec![json!("NotAccepted")])
    );
    assert_eq!(town.get("/apis/example.com/v1/namespaces/ns/gadgets").await.code, 404);
}
