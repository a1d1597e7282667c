//! Pod templates: the pods made from them, a short name for each, and which ReplicaSet was made from which.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use sluice_model::fnv1a;

use crate::owner;

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

/// A hash of the template's JSON with sorted names, in letters and digits that spell no words.
pub(crate) fn digest(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = serde_json::to_value(template).expect("API objects are plain data").to_string();
    if let Some(collisions) = collisions {
        text.push_str(&collisions.to_string());
    }
    fnv1a(text.as_bytes())
        .to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

/// A pod of this template, named by the API unless its owner names it.
pub(crate) fn pod<K>(owner: &K, template: &PodTemplateSpec) -> Pod
where
    K: k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + ResourceExt,
{
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
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

    #[test]
    fn a_template_has_one_digest_for_ever() {
        let template = |image: &str| -> PodTemplateSpec {
            let spec = json!({"containers": [{"name": "main", "image": image}]});
            serde_json::from_value(json!({"metadata": {"labels": {"app": "web"}}, "spec": spec})).expect("a template")
        };
        assert_eq!(digest(&template("a:1"), None), "7d74847cf8");
        assert_ne!(digest(&template("a:1"), Some(1)), "7d74847cf8");
        assert_ne!(digest(&template("a:1"), None), digest(&template("a:2"), None));
    }
}
