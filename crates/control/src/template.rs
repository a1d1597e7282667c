//! Which ReplicaSet was made from which template of a Deployment.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt as _;

/// Tells the pods of one template from those of another.
pub(crate) const HASH: &str = "pod-template-hash";
/// Numbers a Deployment's templates.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";

pub(crate) fn hash(set: &ReplicaSet) -> Option<&str> {
    set.labels().get(HASH).map(String::as_str)
}

pub(crate) fn number(set: &ReplicaSet) -> Option<i64> {
    set.annotations().get(REVISION)?.parse().ok()
}

/// Whether the set was made from this template: it only has the hash besides.
pub(crate) fn is_of(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    own.is_some_and(|own| plain(own) == plain(template))
}

/// Without the hash; nothing and an empty map are the same.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().remove(HASH);
    meta.annotations.get_or_insert_default();
    template
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_set_is_of_the_template_that_it_was_made_from() {
        let template = |meta: Value, image: &str| -> PodTemplateSpec {
            let spec = json!({"containers": [{"name": "main", "image": image}]});
            serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a template")
        };
        let set = |meta: Value| -> ReplicaSet {
            let template = template(meta, "a:1");
            let spec = json!({"selector": {}, "template": template});
            serde_json::from_value(json!({"spec": spec})).expect("a set")
        };
        let hashed = set(json!({"labels": {"app": "web", HASH: "x"}}));
        assert!(is_of(&hashed, &template(json!({"labels": {"app": "web"}}), "a:1")));
        assert!(is_of(&hashed, &template(json!({"labels": {"app": "web"}, "annotations": {}}), "a:1")));
        assert!(is_of(&set(json!({"labels": {HASH: "x"}})), &template(Value::Null, "a:1")));
        assert!(!is_of(&hashed, &template(json!({"labels": {"app": "web"}}), "a:2")));
        assert!(!is_of(&hashed, &template(json!({"labels": {"app": "shop"}}), "a:1")));
        assert!(!is_of(&hashed, &template(json!({"labels": {"app": "web"}, "annotations": {"a": "1"}}), "a:1")));
    }
}
