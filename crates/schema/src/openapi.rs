//! OpenAPI documents from the table of kinds: version 3 for each group-version, version 2 as a whole (JSON and gnostic
//! protobuf).
//!
//! Nothing is kept: a document is made when it is asked for, with descriptions read from the compressed prose. Who serves
//! them keeps them by [`hash`].

mod gnostic;
mod operations;
mod paths;
mod prose;
mod schemas;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sluice_model::KUBERNETES_VERSION;

use crate::catalog;
use crate::kinds::Kind;
use prose::Prose;
use schemas::Schemas;

pub use gnostic::encode as v2_protobuf;

/// The two versions differ in where schemas live and in what they may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// `/openapi/v3`: where the documents are.
pub fn index(kinds: &[Arc<Kind>]) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(kinds) {
        let path = path(&group, &version);
        let url = format!("/openapi/v3/{path}?hash={}", hash(kinds, &group, &version));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `api/v1` or `apis/apps/v1`.
fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn group_versions(kinds: &[Arc<Kind>]) -> BTreeSet<(String, String)> {
    kinds.iter().map(|kind| (kind.group.clone(), kind.version.clone())).collect()
}

fn of<'a>(kinds: &'a [Arc<Kind>], group: &str, version: &str) -> Vec<&'a Kind> {
    kinds.iter().filter(|k| k.group == group && k.version == version).map(Arc::as_ref).collect()
}

/// Changes when the generated data does that all documents are made of: clients keep a document for ever by its hash.
fn data_digest() -> &'static [u8] {
    static DIGEST: OnceLock<[u8; 32]> = OnceLock::new();
    DIGEST.get_or_init(|| {
        let mut digest = Sha256::new();
        for data in [catalog::TYPES.as_bytes(), catalog::KINDS.as_bytes(), prose::DEFLATED] {
            digest.update(data);
        }
        digest.finalize().into()
    })
}

/// Changes when the document of a group-version does.
pub fn hash(kinds: &[Arc<Kind>], group: &str, version: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(data_digest());
    for kind in of(kinds, group, version) {
        digest.update(format!("{group}/{version}/{}/{}/{:?}", kind.plural, kind.kind, kind.subresources));
        if let Some(custom) = &kind.custom {
            digest.update(custom.open_api.to_string());
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Changes when any document does: the `ETag` of version 2.
pub fn hash_of_all(kinds: &[Arc<Kind>]) -> String {
    let mut digest = Sha256::new();
    for (group, version) in group_versions(kinds) {
        digest.update(hash(kinds, &group, &version));
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3/{api/v1|apis/GROUP/VERSION}`; `None` if nothing of it is served.
pub fn v3(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let kinds = of(kinds, group, version);
    if kinds.is_empty() {
        return None;
    }
    let prose = Prose::open();
    let mut schemas = Schemas::new(Dialect::V3, &prose);
    let mut paths = Map::new();
    for kind in kinds {
        schemas.add_kind(kind);
        paths::add(Dialect::V3, kind, &mut paths);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {"schemas": schemas.finish(), "securitySchemes": {"BearerToken": security()}},
    }))
}

/// `/openapi/v2`: everything that is served.
pub fn v2(kinds: &[Arc<Kind>]) -> Value {
    let prose = Prose::open();
    let mut schemas = Schemas::new(Dialect::V2, &prose);
    let mut paths = Map::new();
    for kind in kinds {
        schemas.add_kind(kind);
        paths::add(Dialect::V2, kind, &mut paths);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": security()},
        "security": [{"BearerToken": []}],
    })
}

fn security() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}
