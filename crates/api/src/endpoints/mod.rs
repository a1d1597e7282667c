//! What the server answers outside the resources: health, version, discovery, OpenAPI, metrics.

mod discovery;
mod openapi;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;
use sluice_model::OUR_VERSION;

pub(crate) use discovery::group_discovery;
pub(crate) use openapi::Documents;

use crate::body::Body;
use crate::refusal::Refusal;
use crate::render;
use crate::request::Encoding;
use crate::server::Server;

/// Paths that answer without credentials.
pub(crate) fn is_open(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let health = ["/healthz", "/livez", "/readyz"];
    path == "/version"
        || health.iter().any(|open| path.strip_prefix(open).is_some_and(|r| r.is_empty() || r.starts_with('/')))
}

pub(crate) async fn answer(server: &Server, path: &str, parts: &Parts) -> Result<Response<Body>, Refusal> {
    let kinds = server.registry().kinds();
    match path {
        "/healthz" | "/livez" | "/readyz" => Ok(render::plain(StatusCode::OK, "ok")),
        "/healthz/ping" | "/livez/ping" | "/readyz/ping" | "/healthz/etcd" => Ok(render::plain(StatusCode::OK, "ok")),
        "/version" | "/version/" => only_get(parts).map(|()| version()),
        "/api" => discovery::core_versions(&kinds, parts),
        "/apis" => discovery::groups(&kinds, parts),
        "/metrics" => Ok(render::plain(StatusCode::OK, metrics(server))),
        "/" => Ok(paths()),
        _ if path.starts_with("/openapi/") => openapi::answer(server, path, parts).await,
        _ => Err(Refusal::PageNotFound),
    }
}

fn metrics(server: &Server) -> String {
    let more = server.inner.measures.as_ref().map(|measures| measures.text()).unwrap_or_default();
    server.inner.meter.text(server.storage().progress().0) + &more
}

pub(crate) fn only_get(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::GET { Ok(()) } else { Err(Refusal::MethodNotAllowed) }
}

fn version() -> Response<Body> {
    let version = json!({
        "major": "1", "minor": "35", "emulationMajor": "1", "emulationMinor": "35",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "34",
        "gitVersion": OUR_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": platform(),
    });
    render::value(Encoding::Json, StatusCode::OK, &version)
}

/// `linux/amd64`, in Go's spelling.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

fn paths() -> Response<Body> {
    let paths =
        ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
    render::value(Encoding::Json, StatusCode::OK, &json!({"paths": paths}))
}
