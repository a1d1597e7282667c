//! A claim that names no class gets the default one.

use serde_json::{Value, json};

use crate::call::Call;
use crate::object::Object;
use crate::storage::scope;

const CLASS_BEFORE: &str = "volume.beta.kubernetes.io/storage-class";
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// An empty name says that the claim wants none, which is not the same as saying nothing.
pub(super) fn admit(call: &Call, claim: &mut Value) {
    let says = claim["spec"].get("storageClassName").is_some_and(|name| !name.is_null());
    if says || claim["metadata"]["annotations"].get(CLASS_BEFORE).is_some() {
        return;
    }
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("storage.k8s.io", "v1", "storageclasses").expect("storage classes are built in");
    let all = call.server.storage().all(&scope(&kind, ""));
    let classes = all.iter().map(|entry| entry.value());
    let default =
        classes.filter(|class| IS_DEFAULT.iter().any(|name| class["metadata"]["annotations"][name] == "true"));
    // The newest; of one age the first by name.
    let created = |class: &Value| class.text("/metadata/creationTimestamp").to_owned();
    let newest = default.max_by_key(|class| (created(class), std::cmp::Reverse(class.name().to_owned())));
    if let Some(class) = newest.filter(|_| claim["spec"].is_object()) {
        claim["spec"]["storageClassName"] = json!(class.name());
    }
}
