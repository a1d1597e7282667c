//! The OpenAPI documents: made when asked for, kept by clients under their hash.

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use sluice_schema::openapi;

use crate::body::Body;
use crate::dispatch::text;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::render;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// `/openapi/v2`: gnostic protobuf for those who name it, JSON for the rest.
pub(super) fn v2(kinds: &Kinds, parts: &Parts) -> Response<Body> {
    let tag = openapi::hash_of_all(&kinds.all);
    if is_known(parts, &tag) {
        return tagged(render::answer(StatusCode::NOT_MODIFIED, "application/json", ""), &tag);
    }
    let wants_protobuf = text(&parts.headers, "accept").contains("spec.v2@v1.0+protobuf");
    let document = openapi::v2(&kinds.all);
    let answer = if wants_protobuf {
        render::answer(StatusCode::OK, PROTOBUF, openapi::v2_protobuf(&document))
    } else {
        render::answer(StatusCode::OK, "application/json", document.to_string())
    };
    tagged(answer, &tag)
}

/// `/openapi/v3` and what it lists; these paths look at no method.
pub(super) fn v3(kinds: &Kinds, path: &str, parts: &Parts) -> Result<Response<Body>, Refusal> {
    if !takes_json(parts) {
        return Ok(render::plain(StatusCode::NOT_ACCEPTABLE, ""));
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version) = match segments.as_slice() {
        [""] => return Ok(render::answer(StatusCode::OK, "application/json", openapi::index(&kinds.all).to_string())),
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return Ok(missing()),
    };
    if !kinds.knows_version(group, version) {
        return Ok(missing());
    }
    let hash = openapi::hash(&kinds.all, group, version);
    let asked = parts.uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("hash="));
    if asked.is_some_and(|asked| !asked.is_empty() && asked != hash) {
        return moved(path, &hash);
    }
    if is_known(parts, &hash) {
        return Ok(tagged(render::answer(StatusCode::NOT_MODIFIED, "application/json", ""), &hash));
    }
    let Some(document) = openapi::v3(&kinds.all, group, version) else { return Ok(missing()) };
    Ok(tagged(render::answer(StatusCode::OK, "application/json", document.to_string()), &hash))
}

fn takes_json(parts: &Parts) -> bool {
    let accept = text(&parts.headers, "accept");
    accept.trim().is_empty() || ["application/json", "application/*", "*/*"].iter().any(|media| accept.contains(media))
}

fn missing() -> Response<Body> {
    render::plain(StatusCode::NOT_FOUND, "")
}

/// The document has changed since the hash was told.
fn moved(path: &str, hash: &str) -> Result<Response<Body>, Refusal> {
    let mut response = render::plain(StatusCode::MOVED_PERMANENTLY, "");
    let place = HeaderValue::from_str(&format!("/openapi/v3/{}?hash={hash}", path.trim_matches('/')));
    response.headers_mut().insert(header::LOCATION, place.map_err(|_| Refusal::PageNotFound)?);
    Ok(response)
}

fn is_known(parts: &Parts, tag: &str) -> bool {
    text(&parts.headers, "if-none-match").trim_matches('"') == tag
}

fn tagged(mut response: Response<Body>, tag: &str) -> Response<Body> {
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
