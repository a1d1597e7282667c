//! Clients over the in-process API: one for each part, so that every write tells who made it.

use http::header::{HeaderValue, USER_AGENT};
use sluice_api::{Identity, Server};
use tower::ServiceExt as _;

/// The namespace of calls that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// A client that acts as `system:sluice:PART` and writes fields as manager `sluice-PART` unless the call says otherwise.
pub(crate) fn client(server: &Server, part: &'static str) -> kube::Client {
    let identity = Identity::system(format!("system:sluice:{part}"));
    let agent = HeaderValue::from_str(&format!("sluice-{part}")).expect("the names of parts are plain words");
    let service = server.in_process(identity).map_request(move |mut request: http::Request<kube::client::Body>| {
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| agent.clone());
        request
    });
    kube::Client::new(service, DEFAULT_NAMESPACE)
}
