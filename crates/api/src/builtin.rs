//! The kinds every server has, and the bodies that are kinds of no resource.

use std::sync::Arc;

use sluice_schema::{Catalog, Kind};

/// The built-in kinds in the order of discovery.
pub(crate) fn kinds() -> Vec<Arc<Kind>> {
    Catalog::builtin().kinds().to_vec()
}

/// What a body of a subresource is, as if it were served: `Scale`, `Eviction`, `TokenRequest`.
pub(crate) fn body(group: &str, version: &str, kind: &str) -> Kind {
    let catalog = Catalog::builtin();
    let root = catalog.body(group, version, kind).expect("the catalog knows the bodies of built-in subresources").id;
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: kind.to_ascii_lowercase(),
        storage_version: version.to_owned(),
        storage_group: group.to_owned(),
        list_kind: String::new(),
        singular: String::new(),
        short_names: vec![],
        categories: vec![],
        namespaced: true,
        verbs: vec![],
        subresources: vec![],
        storage_version_hash: String::new(),
        arena: Arc::clone(&catalog.kinds()[0].arena),
        root,
        custom: None,
    }
}
