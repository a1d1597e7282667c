//! What may be done with a kind, as operations on paths: both versions of OpenAPI print the same list.

use serde_json::{Value, json};

use super::schemas::{published, published_list};
use crate::Catalog;
use crate::kinds::{Kind, Subresource};
use crate::types::Ty;

/// One method of one path.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) action: &'static str,
    pub(super) gvk: Value,
    pub(super) parameters: &'static [&'static str],
    pub(super) body: Body,
    /// The published name of what is answered.
    pub(super) answer: String,
}

pub(super) enum Body {
    None,
    Object(String),
    Options,
    /// A patch; strategic only for built-in kinds.
    Patch {
        strategic: bool,
    },
}

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const NONE: &[&str] = &[];

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

pub(super) fn of(kind: &Kind) -> Vec<Operation> {
    let names = Names::new(kind);
    let mut all = Vec::new();
    let root =
        if kind.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/{}", kind.group, kind.version) };
    let collection = match kind.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{root}/{}", kind.plural),
    };
    let item = format!("{collection}/{{name}}");
    for verb in &kind.verbs {
        if let Some(operation) = names.verb(kind, verb, &collection, &item) {
            all.push(operation);
        }
    }
    if kind.namespaced && kind.allows("list") {
        let id = format!("list{}{}ForAllNamespaces", names.group_version, kind.kind);
        let path = format!("{root}/{}", kind.plural);
        all.push(names.operation(path, "get", id, "list", LIST, Body::None, published_list(kind)));
    }
    for sub in &kind.subresources {
        names.subresource(kind, sub, &item, &mut all);
    }
    all
}

/// The parts that names of operations are made of.
struct Names {
    group_version: String,
    scope: &'static str,
    gvk: Value,
}

impl Names {
    fn new(kind: &Kind) -> Self {
        let group = if kind.group.is_empty() { "core" } else { kind.group.as_str() };
        // `rbac.authorization.k8s.io` is called RbacAuthorization.
        let group = group.strip_suffix(".k8s.io").unwrap_or(group);
        let group: String = group.split(['.', '-']).map(capital).collect();
        Self {
            group_version: format!("{group}{}", capital(&kind.version)),
            scope: if kind.namespaced { "Namespaced" } else { "" },
            gvk: json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "it only puts the parts of an operation together")]
    fn operation(
        &self,
        path: String,
        method: &'static str,
        id: String,
        action: &'static str,
        parameters: &'static [&'static str],
        body: Body,
        answer: String,
    ) -> Operation {
        Operation { path, method, id, action, gvk: self.gvk.clone(), parameters, body, answer }
    }

    fn verb(&self, kind: &Kind, verb: &str, collection: &str, item: &str) -> Option<Operation> {
        let id = |word: &str| format!("{word}{}{}{}", self.group_version, self.scope, kind.kind);
        let object = || Body::Object(published(kind));
        let (collection, item) = (collection.to_owned(), item.to_owned());
        let strategic = kind.custom.is_none();
        Some(match verb {
            "list" => self.operation(collection, "get", id("list"), "list", LIST, Body::None, published_list(kind)),
            "create" => self.operation(collection, "post", id("create"), "post", WRITE, object(), published(kind)),
            "deletecollection" => {
                let id = format!("delete{}Collection{}{}", self.group_version, self.scope, kind.kind);
                self.operation(collection, "delete", id, "deletecollection", DELETE, Body::Options, STATUS.to_owned())
            }
            "get" => self.operation(item, "get", id("read"), "get", NONE, Body::None, published(kind)),
            "update" => self.operation(item, "put", id("replace"), "put", WRITE, object(), published(kind)),
            "patch" => {
                self.operation(item, "patch", id("patch"), "patch", PATCH, Body::Patch { strategic }, published(kind))
            }
            "delete" => {
                self.operation(item, "delete", id("delete"), "delete", DELETE, Body::Options, STATUS.to_owned())
            }
            _ => return None,
        })
    }

    fn subresource(&self, kind: &Kind, sub: &Subresource, item: &str, all: &mut Vec<Operation>) {
        let path = format!("{item}/{}", sub.name);
        let body = if sub.version.is_empty() {
            Catalog::builtin().body(&kind.group, &kind.version, &sub.kind)
        } else {
            Catalog::builtin().body(&sub.group, &sub.version, &sub.kind)
        };
        let body = body.and_then(Ty::as_struct).map(|def| def.name.clone());
        let answer = match body {
            Some(_) if sub.kind == kind.kind => published(kind),
            Some(name) => name,
            None if sub.kind == kind.kind => published(kind),
            // Connections have no schema.
            None => String::new(),
        };
        let gvk = if sub.version.is_empty() {
            json!({"group": kind.group, "version": kind.version, "kind": sub.kind})
        } else {
            json!({"group": sub.group, "version": sub.version, "kind": sub.kind})
        };
        let suffix = capital(&sub.name);
        let id = |word: &str| format!("{word}{}{}{}{suffix}", self.group_version, self.scope, kind.kind);
        let strategic = kind.custom.is_none();
        for verb in &sub.verbs {
            let object = || Body::Object(answer.clone());
            let connect = answer.is_empty();
            let (method, word, action, parameters, body) = match verb.as_str() {
                "get" if connect => ("get", "Get", "connect", NONE, Body::None),
                "create" if connect => ("post", "Post", "connect", NONE, Body::None),
                "get" => ("get", "read", "get", NONE, Body::None),
                "create" => ("post", "create", "post", WRITE, object()),
                "update" if !connect => ("put", "replace", "put", WRITE, object()),
                "patch" if !connect => ("patch", "patch", "patch", PATCH, Body::Patch { strategic }),
                _ => continue,
            };
            let mut operation =
                self.operation(path.clone(), method, id(word), action, parameters, body, answer.clone());
            operation.gvk = gvk.clone();
            all.push(operation);
        }
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
