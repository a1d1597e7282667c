//! What a path names: a part of the API that is not a resource, or a resource, an object, a subresource.

use std::sync::Arc;

use sluice_schema::Kind;

use super::query::unescape;
use crate::refusal::Refusal;
use crate::registry::Kinds;

/// A path that names something in a resource.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    /// Empty for cluster-scoped kinds and for lists over all namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// The old form `/api/v1/watch/...`.
    pub(crate) watch: bool,
}

/// What a path names.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// `/api`, `/apis`, `/healthz`, ... without its trailing slash.
    Other(String),
    /// `/apis/GROUP`, `/api/v1`, `/apis/GROUP/VERSION`.
    Discovery {
        group: String,
        version: Option<String>,
    },
    Resource(Target),
}

/// Finds what a path names. Refuses paths below the groups that name nothing.
pub(crate) fn route(path: &str, kinds: &Kinds) -> Result<Route, Refusal> {
    let rest = if let Some(rest) = path.strip_prefix("/api/") {
        (Vec::from([""]), rest)
    } else if let Some(rest) = path.strip_prefix("/apis/") {
        let (group, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if group.is_empty() {
            return Ok(Route::Other("/apis".into()));
        }
        (Vec::from([group]), rest)
    } else {
        return Ok(Route::Other(path.to_owned()));
    };
    let (group, rest) = (rest.0[0], rest.1);
    if group.is_empty() && rest.is_empty() {
        return Ok(Route::Other("/api".into()));
    }
    if !kinds.knows_group(group) {
        return Err(Refusal::PageNotFound);
    }
    let missing = if kinds.is_custom_group(group) { Refusal::PageNotFound } else { Refusal::NoSuchResource };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Ok(Route::Discovery { group: group.to_owned(), version: None });
    }
    let mut parts = rest.split('/').map(|part| unescape(part, false).unwrap_or_else(|| part.to_owned()));
    let version = parts.next().unwrap_or_default();
    let parts: Vec<String> = parts.collect();
    if !kinds.knows_version(group, &version) {
        return Err(missing);
    }
    if parts.is_empty() {
        return Ok(Route::Discovery { group: group.to_owned(), version: Some(version) });
    }
    if parts.iter().any(|part| part.contains('/')) {
        return Err(missing);
    }
    let (watch, parts) = match parts.split_first() {
        Some((first, rest)) if first == "watch" => (true, rest),
        _ => (false, parts.as_slice()),
    };
    target(group, &version, parts, watch, kinds).map(Route::Resource).ok_or(missing)
}

/// `namespaces/NS/RESOURCE[/NAME[/SUBRESOURCE]]` or `RESOURCE[/NAME[/SUBRESOURCE]]`.
fn target(group: &str, version: &str, parts: &[String], watch: bool, kinds: &Kinds) -> Option<Target> {
    let text: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (namespace, in_namespace, rest) = match text.as_slice() {
        // Of namespaces themselves only `status` and `finalize` come behind a name.
        ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", false, &text[..]),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, true, rest),
        rest => ("", false, rest),
    };
    let (resource, rest) = rest.split_first()?;
    let kind = kinds.find(group, version, resource)?;
    let whole_collection = rest.is_empty();
    if kind.namespaced != in_namespace && !(kind.namespaced && whole_collection) {
        return None;
    }
    let (name, subresource) = match rest {
        [] => (None, None),
        [name] => (Some(*name), None),
        [name, sub] => (Some(*name), Some(*sub)),
        [name, "proxy", ..] => (Some(*name), Some("proxy")),
        _ => return None,
    };
    if name.is_some_and(|name| name.is_empty() || name == "." || name == "..") {
        return None;
    }
    if subresource.is_some_and(|sub| kind.custom.is_none() && kind.subresource(sub).is_none()) {
        return None;
    }
    Some(Target {
        kind,
        namespace: namespace.to_owned(),
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
        watch,
    })
}
