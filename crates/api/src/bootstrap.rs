//! The objects that every cluster has from its first moment.

use http::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::admission::SYSTEM;
use crate::body::Body;
use crate::identity::Identity;
use crate::server::Server;

const NAMESPACES: [&str; 5] = ["default", "kube-system", "kube-public", "kube-node-lease", "sluice-system"];

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot make `{path}`: the server answered {code}: {answer}")]
    Bootstrap { path: String, code: StatusCode, answer: String },
    #[error("cannot go on with the stored definitions: {0}")]
    Resume(String),
    #[error("cannot create the definitions that come with this program: {0}")]
    Install(String),
}

/// Makes what is missing.
pub(crate) async fn run(server: &Server) -> Result<(), StartError> {
    for name in NAMESPACES {
        ensure(server, "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    }
    for (name, value) in SYSTEM {
        let description = "Used for system critical pods that must not be moved from their current node.";
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        ensure(server, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    }
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": server.inner.addresses.of_api().to_string(), "type": "ClusterIP", "sessionAffinity": "None",
                 "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
    });
    ensure(server, "/api/v1/namespaces/default/services", &service).await
}

/// Creates an object through the server's own front door, unless it is there.
async fn ensure(server: &Server, path: &str, object: &Value) -> Result<(), StartError> {
    use http_body_util::BodyExt;
    let service = server.in_process(Identity::system("system:apiserver"));
    let request = |method: http::Method, path: String, body: String| {
        http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::USER_AGENT, "sluice")
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .expect("this request is well-formed")
    };
    // Asked for first: creating what is there is not always a conflict, as with an address that is taken by itself.
    let own = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    let Ok(found): Result<http::Response<Body>, _> =
        service.clone().oneshot(request(http::Method::GET, own, String::new())).await;
    if found.status().is_success() {
        return Ok(());
    }
    let Ok(response): Result<http::Response<Body>, _> =
        service.oneshot(request(http::Method::POST, path.to_owned(), object.to_string())).await;
    let code = response.status();
    if code.is_success() || code == StatusCode::CONFLICT {
        return Ok(());
    }
    let Ok(answer) = response.into_body().collect().await;
    let answer = String::from_utf8_lossy(&answer.to_bytes()).into_owned();
    Err(StartError::Bootstrap { path: path.to_owned(), code, answer })
}
