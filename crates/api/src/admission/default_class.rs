//! A claim, or an Ingress, that names no class gets the default one.

use serde_json::{Value, json};

use crate::call::Call;
use crate::object::Object;
use crate::storage::scope;

/// Something that is of a class.
struct Classed {
    /// Group and plural of the classes.
    classes: (&'static str, &'static str),
    field: &'static str,
    /// Where the class was said before there was a field.
    before: &'static str,
    /// Annotations of the class that is the default.
    is_default: &'static [&'static str],
}

const CLAIM: Classed = Classed {
    classes: ("storage.k8s.io", "storageclasses"),
    field: "storageClassName",
    before: "volume.beta.kubernetes.io/storage-class",
    is_default: &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
};

const INGRESS: Classed = Classed {
    classes: ("networking.k8s.io", "ingressclasses"),
    field: "ingressClassName",
    before: "kubernetes.io/ingress.class",
    is_default: &["ingressclass.kubernetes.io/is-default-class"],
};

pub(super) fn admit(call: &Call, object: &mut Value) {
    let kind = call.kind();
    if kind.is("", "PersistentVolumeClaim") {
        CLAIM.complete(call, object);
    } else if kind.is("networking.k8s.io", "Ingress") {
        INGRESS.complete(call, object);
    }
}

impl Classed {
    /// An empty name says that none is wanted, which is not the same as saying nothing.
    fn complete(&self, call: &Call, object: &mut Value) {
        let says = object["spec"].get(self.field).is_some_and(|name| !name.is_null());
        if says || object["metadata"]["annotations"].get(self.before).is_some() {
            return;
        }
        let kinds = call.server.registry().kinds();
        let (group, plural) = self.classes;
        let kind = kinds.find(group, "v1", plural).expect("classes are built in");
        let all = call.server.storage().all(&scope(&kind, ""));
        let classes = all.iter().map(|entry| entry.value());
        let is_default =
            |class: &Value| self.is_default.iter().any(|name| class["metadata"]["annotations"][name] == "true");
        // The newest; of one age the first by name.
        let created = |class: &Value| class.text("/metadata/creationTimestamp").to_owned();
        let newest = classes
            .filter(|class| is_default(class))
            .max_by_key(|class| (created(class), std::cmp::Reverse(class.name().to_owned())));
        if let Some(class) = newest.filter(|_| object["spec"].is_object()) {
            object["spec"][self.field] = json!(class.name());
        }
    }
}
