//! A client of registries: finds out who we must be, asks again when it is worth it, and never says more than it must.

mod challenge;
mod credentials;
mod hosts;
mod request;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::manifest::{ACCEPTED, Descriptor};
use crate::reference::Reference;
use hosts::Endpoint;

pub use challenge::Challenge;
pub use credentials::{Credential, CredentialsError, Keyring};
pub use hosts::Hosts;

const USER_AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of an answer, and between pieces of its body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of one request that may succeed later.
const MAX_ATTEMPTS: u32 = 5;
/// How often a download goes on where it was cut.
const MAX_RESUMES: u32 = 10;
const MAX_REDIRECTS: u32 = 5;
/// The longest that a registry may send us away for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
const BASE_DELAY: Duration = Duration::from_millis(200);
const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_TOKEN_BYTES: u64 = 1 << 20;
const MAX_TOKENS: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{what}: not found")]
    NotFound { what: String },
    #[error("{what}: access denied by {host}{}", said(message))]
    Denied { what: String, host: String, message: String },
    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    #[error("{host} answered {status}{}", said(message))]
    Status { host: String, status: StatusCode, message: String },
    #[error("{host} sent no answer for {seconds} seconds")]
    Silent { host: String, seconds: u64 },
    #[error("{host} redirects {why}")]
    Redirect { host: String, why: &'static str },
    #[error("{host} asks for an authentication that we do not know: `{challenge}`")]
    Challenge { host: String, challenge: String },
    #[error("{host} sent {what} of more than {limit} bytes")]
    TooLarge { host: String, what: &'static str, limit: u64 },
    #[error("{host} sent a token that cannot be read")]
    Token { host: String },
    #[error("{host} cut the download of {digest} after {received} of {size} bytes")]
    Cut { host: String, digest: Digest, received: u64, size: u64 },
    #[error("{host} sent more for {digest} than its {size} bytes")]
    TooMuch { host: String, digest: Digest, size: u64 },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// Whether other credentials, or another host, may do better.
    pub(crate) fn is_about_us(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Body>;
type Body = http_body_util::Either<Empty<Bytes>, http_body_util::Full<Bytes>>;

/// Speaks to any registry; cheap to clone, and keeps connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    http: Http,
    hosts: Arc<Hosts>,
    /// By host, scope and user.
    tokens: Arc<Mutex<HashMap<String, token::Token>>>,
}

/// Where an image was found, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    registry: Registry,
    endpoint: Endpoint,
    repository: String,
    credential: Option<Credential>,
}

/// A manifest or an index as it was served.
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

/// A piece of a download, or that all of it is there.
#[derive(Debug)]
pub(crate) enum Chunk {
    Data(Bytes),
    End,
}

impl Registry {
    pub fn new(hosts: Hosts) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in hosts.certificates() {
            // One unreadable file must not keep all registries away.
            let _refused = roots.add(certificate);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            hosts: Arc::new(hosts),
            tokens: Arc::default(),
        }
    }

    /// Finds a manifest: at each mirror and then at the registry, as each of those we may be.
    pub(crate) async fn resolve(
        &self,
        reference: &Reference,
        credentials: &[Credential],
        limit: u64,
    ) -> Result<(Session, Served), RegistryError> {
        let mut last = None;
        for endpoint in self.hosts.endpoints(reference.registry()) {
            // Mirrors are not the registry that the credentials are for.
            let known = if endpoint.is_mirror { &[] } else { credentials };
            for credential in known.iter().map(Some).chain([None]) {
                let session = Session {
                    registry: self.clone(),
                    endpoint: endpoint.clone(),
                    repository: reference.repository().to_owned(),
                    credential: credential.cloned(),
                };
                match session.manifest(&reference.manifest(), limit).await {
                    Ok(served) => return Ok((session, served)),
                    // The refusal of those who asked by name tells more than that of nobody.
                    Err(error)
                        if error.is_about_us() && credential.is_none() && last.is_some() && !endpoint.is_mirror => {}
                    Err(error) => {
                        let go_on = error.is_about_us();
                        tracing::debug!(%error, host = endpoint.authority, "Manifest not served");
                        last = Some(error);
                        if !go_on {
                            break;
                        }
                    }
                }
            }
        }
        Err(last.expect("a registry has at least one endpoint"))
    }
}

impl Session {
    pub(crate) async fn manifest(&self, name: &str, limit: u64) -> Result<Served, RegistryError> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let accept = HeaderValue::from_str(&ACCEPTED.join(", ")).expect("media types are plain text");
        let (response, host) = self.get(&path, &[(header::ACCEPT, accept)]).await?;
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = read_body(response.into_body(), limit, "a manifest", &host).await?;
        Ok(Served { bytes, content_type })
    }

    /// A small blob, whole.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let (sender, mut receiver) = mpsc::channel(4);
        let descriptor = descriptor.clone();
        if descriptor.size > limit {
            let host = self.endpoint.authority.clone();
            return Err(RegistryError::TooLarge { host, what: "a blob", limit });
        }
        let collect = async {
            let mut bytes = Vec::new();
            while let Some(Chunk::Data(chunk)) = receiver.recv().await {
                bytes.extend_from_slice(&chunk);
            }
            bytes
        };
        let (fetched, bytes) = tokio::join!(self.download(&descriptor, sender, |_| ()), collect);
        fetched.map(|()| bytes)
    }

    /// Downloads a blob, going on where it was cut. Ends early, and well, when nobody listens any more.
    pub(crate) async fn download(
        &self,
        descriptor: &Descriptor,
        sink: mpsc::Sender<Chunk>,
        received: impl Fn(u64),
    ) -> Result<(), RegistryError> {
        let path = format!("/v2/{}/blobs/{}", self.repository, descriptor.digest);
        let (digest, size) = (&descriptor.digest, descriptor.size);
        let mut have: u64 = 0;
        for resume in 0..=MAX_RESUMES {
            let range = HeaderValue::from_str(&format!("bytes={have}-")).expect("digits");
            let headers: &[_] = if have > 0 { &[(header::RANGE, range)] } else { &[] };
            let (response, host) = self.get(&path, headers).await?;
            // A server that knows no ranges sends everything again.
            let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { have };
            if response.status() == StatusCode::PARTIAL_CONTENT && range_start(response.headers()) != Some(have) {
                return Err(RegistryError::Cut { host, digest: digest.clone(), received: have, size });
            }
            let mut body = response.into_body();
            while let Some(chunk) = next_chunk(&mut body).await {
                let Ok(mut chunk) = chunk else { break };
                let skipped = skip.min(chunk.len() as u64);
                skip -= skipped;
                drop(chunk.split_to(usize::try_from(skipped).expect("no longer than the chunk")));
                if chunk.is_empty() {
                    continue;
                }
                have += chunk.len() as u64;
                if have > size {
                    return Err(RegistryError::TooMuch { host, digest: digest.clone(), size });
                }
                received(chunk.len() as u64);
                if sink.send(Chunk::Data(chunk)).await.is_err() {
                    return Ok(());
                }
            }
            if have == size {
                // Whoever no longer listens knows already.
                let _gone = sink.send(Chunk::End).await;
                return Ok(());
            }
            tracing::debug!(host, %digest, have, size, "Download cut");
            if resume == MAX_RESUMES {
                return Err(RegistryError::Cut { host, digest: digest.clone(), received: have, size });
            }
            tokio::time::sleep(request::delay(resume.min(4))).await;
        }
        unreachable!("the last resume returns")
    }
}

/// The next data of a body; `Err` when it is cut or falls silent.
async fn next_chunk(body: &mut Incoming) -> Option<Result<Bytes, ()>> {
    loop {
        match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
            Err(_) | Ok(Some(Err(_))) => return Some(Err(())),
            Ok(None) => return None,
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
        }
    }
}

async fn read_body(mut body: Incoming, limit: u64, what: &'static str, host: &str) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut body).await {
        let cut = |()| RegistryError::Unreachable { host: host.to_owned(), why: "the answer was cut".to_owned() };
        bytes.extend_from_slice(&chunk.map_err(cut)?);
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { host: host.to_owned(), what, limit });
        }
    }
    Ok(bytes)
}

fn range_start(headers: &http::HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
