//! Which groups, versions and resources are served.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use sluice_schema::discovery;

use super::only_get;
use crate::body::Body;
use crate::dispatch::text;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::render;
use crate::request::{Shape, negotiate};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api`.
pub(super) fn core_versions(kinds: &Kinds, parts: &Parts) -> Result<Response<Body>, Refusal> {
    only_get(parts)?;
    aggregated_or(kinds, parts, true, discovery::core_versions)
}

/// `/apis`, which looks at no method.
pub(super) fn groups(kinds: &Kinds, parts: &Parts) -> Result<Response<Body>, Refusal> {
    aggregated_or(kinds, parts, false, || discovery::group_list(&kinds.all))
}

/// The document of a group, or of one of its versions.
pub(crate) fn group_discovery(
    kinds: &Kinds,
    group: &str,
    version: Option<&str>,
    parts: &Parts,
) -> Result<Response<Body>, Refusal> {
    only_get(parts)?;
    let accept = negotiate(&text(&parts.headers, "accept"), true)?;
    let document = match version {
        None => discovery::group(&kinds.all, group),
        Some(version) => discovery::resource_list(&kinds.all, group, version),
    };
    let document = document.ok_or(Refusal::NoSuchResource)?;
    Ok(render::value(accept.encoding, StatusCode::OK, &document))
}

/// Everything in one document for those who ask for it, which they may keep while its tag holds.
fn aggregated_or(
    kinds: &Kinds,
    parts: &Parts,
    core: bool,
    plain: impl FnOnce() -> Value,
) -> Result<Response<Body>, Refusal> {
    let accept = negotiate(&text(&parts.headers, "accept"), true)?;
    if accept.shape != Shape::Discovery {
        return Ok(render::value(accept.encoding, StatusCode::OK, &plain()));
    }
    let document = discovery::aggregated(&kinds.all, core);
    let bytes = serde_json::to_vec(&document).expect("JSON values always serialise");
    let tag = format!("{:?}", discovery::etag(&bytes));
    let known = text(&parts.headers, "if-none-match") == tag;
    let (code, bytes) = if known { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, bytes.into()) };
    let mut response = render::answer(code, AGGREGATED, bytes);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}
