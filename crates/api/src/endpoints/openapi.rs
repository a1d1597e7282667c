//! OpenAPI documents, made when first asked for and kept while their hash holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use sluice_schema::openapi;

use crate::body::Body;
use crate::dispatch::text;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::render;
use crate::request::Query;
use crate::server::Server;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// By path: the hash a document was made for, and the document.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<HashMap<String, (String, Bytes)>>);

impl Documents {
    /// The document of a path, made anew when its hash is another one.
    async fn get(
        &self,
        path: &str,
        hash: &str,
        make: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
    ) -> Option<Bytes> {
        let kept = self.0.lock().expect("nobody panics while reading documents").get(path).cloned();
        if let Some((_, document)) = kept.filter(|(known, _)| known == hash) {
            return Some(document);
        }
        let made = tokio::task::spawn_blocking(make).await.ok().flatten()?;
        let document = Bytes::from(made);
        let mut all = self.0.lock().expect("nobody panics while keeping documents");
        all.insert(path.to_owned(), (hash.to_owned(), document.clone()));
        Some(document)
    }

    /// Forgets documents of groups that are not served any more.
    pub(crate) fn keep_only(&self, kinds: &Kinds) {
        let mut all = self.0.lock().expect("nobody panics while forgetting documents");
        all.retain(|path, _| match path.strip_prefix("apis/").and_then(|rest| rest.split_once('/')) {
            Some((group, version)) => kinds.knows_version(group, version),
            None => true,
        });
    }
}

/// `/openapi/v3`, `/openapi/v3/...` and `/openapi/v2`, which look at no method.
pub(super) async fn answer(server: &Server, path: &str, parts: &Parts) -> Result<Response<Body>, Refusal> {
    let kinds = server.registry().kinds();
    match path.strip_prefix("/openapi/v3") {
        Some("" | "/") => {
            let index = serde_json::to_vec(&openapi::index(&kinds.all)).expect("JSON values always serialise");
            Ok(render::json_bytes(StatusCode::OK, index))
        }
        Some(rest) => Ok(version3(server, kinds, rest.trim_matches('/'), parts).await),
        None if path == "/openapi/v2" => Ok(version2(server, kinds, parts).await),
        None => Err(Refusal::PageNotFound),
    }
}

async fn version3(server: &Server, kinds: Arc<Kinds>, path: &str, parts: &Parts) -> Response<Body> {
    let accept = text(&parts.headers, "accept");
    let wanted = |clause: &str| {
        matches!(clause.split(';').next().unwrap_or_default().trim(), "application/json" | "*/*" | "application/*")
    };
    if !accept.is_empty() && !accept.split(',').any(wanted) {
        return empty(StatusCode::NOT_ACCEPTABLE);
    }
    let Some((group, version)) = group_version(path) else { return empty(StatusCode::NOT_FOUND) };
    if !kinds.knows_version(&group, &version) {
        return empty(StatusCode::NOT_FOUND);
    }
    let hash = openapi::hash(&kinds.all, &group, &version);
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let asked = query.text("hash");
    if asked.is_some_and(|asked| asked != hash) {
        let mut moved = empty(StatusCode::MOVED_PERMANENTLY);
        if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")) {
            moved.headers_mut().insert(header::LOCATION, location);
        }
        return moved;
    }
    if unchanged(parts, &hash) {
        return tagged(empty(StatusCode::NOT_MODIFIED), &hash);
    }
    let make = move || openapi::v3(&kinds.all, &group, &version).map(|document| document.to_string().into_bytes());
    match server.inner.documents.get(path, &hash, make).await {
        Some(document) => {
            let mut response = tagged(render::json_bytes(StatusCode::OK, document), &hash);
            if asked.is_some() {
                let forever = HeaderValue::from_static("public, immutable");
                response.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            response
        }
        None => empty(StatusCode::NOT_FOUND),
    }
}

async fn version2(server: &Server, kinds: Arc<Kinds>, parts: &Parts) -> Response<Body> {
    let hash = openapi::hash_of_all(&kinds.all);
    if unchanged(parts, &hash) {
        return tagged(empty(StatusCode::NOT_MODIFIED), &hash);
    }
    let accept = text(&parts.headers, "accept");
    let protobuf = accept.contains("proto-openapi.spec.v2") && accept.contains("protobuf");
    let path = if protobuf { "v2.pb" } else { "v2.json" };
    let make = move || {
        let document = openapi::v2(&kinds.all);
        Some(if protobuf { openapi::v2_protobuf(&document) } else { document.to_string().into_bytes() })
    };
    match server.inner.documents.get(path, &hash, make).await {
        Some(document) if protobuf => tagged(render::answer(StatusCode::OK, PROTOBUF, document), &hash),
        Some(document) => tagged(render::json_bytes(StatusCode::OK, document), &hash),
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn group_version(path: &str) -> Option<(String, String)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some((String::new(), (*version).to_owned())),
        ["apis", group, version] => Some(((*group).to_owned(), (*version).to_owned())),
        _ => None,
    }
}

fn unchanged(parts: &Parts, hash: &str) -> bool {
    text(&parts.headers, "if-none-match") == format!("{hash:?}")
}

fn tagged(mut response: Response<Body>, hash: &str) -> Response<Body> {
    if let Ok(tag) = HeaderValue::from_str(&format!("{hash:?}")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = code;
    response
}
