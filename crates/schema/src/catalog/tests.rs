use super::*;
use crate::types::{ListKind, Omit, Scalar, Shape};

#[test]
fn a_kind_is_found_by_both_its_names() {
    let catalog = Catalog::builtin();
    let kind = catalog.resource("apps", "v1", "deployments").expect("deployments are built in");
    assert_eq!((kind.kind.as_str(), kind.storage_version_hash.as_str()), ("Deployment", "8aSe+NMegvE="));
    assert!(kind.namespaced && kind.has_status());
    assert_eq!(kind.subresource("scale").map(|s| s.group.as_str()), Some("autoscaling"));
    let events = catalog.kind("events.k8s.io", "v1", "Event").expect("events are built in");
    assert_eq!((events.storage_group.as_str(), events.storage_version.as_str()), ("", "v1"));
    assert!(catalog.body("apps", "v1", "DeleteOptions").is_some());
    assert!(catalog.body("autoscaling", "v1", "Scale").is_some());
    assert!(catalog.resource("apps", "v2", "deployments").is_none());
}

#[test]
fn types_carry_their_keys_and_go_facts() {
    let pod = Catalog::builtin().ty("io.k8s.api.core.v1.PodSpec").expect("pods are built in");
    let containers = pod.field_def("containers").expect("pods have containers");
    assert!(containers.required && containers.patch.merge);
    assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
    let container = pod.field("containers").and_then(Ty::item).expect("a list of containers");
    let ports = container.field("ports").expect("containers have ports");
    assert_eq!(
        ports.as_list().map(|l| &l.kind),
        Some(&ListKind::Map(vec!["containerPort".to_owned(), "protocol".to_owned()]))
    );
    let stdin = container.field_def("stdin").and_then(|f| f.native).expect("a native field");
    assert_eq!((stdin.tag, stdin.pointer, stdin.omit), (16, false, Omit::Empty));
    let limits = container.field("resources").and_then(|r| r.field("limits")).and_then(|l| l.field("cpu"));
    assert!(matches!(limits.map(Ty::shape), Some(Shape::Scalar(Scalar::Quantity))));
}
