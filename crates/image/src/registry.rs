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
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::digest::Digest;
use crate::manifest::{ACCEPTED, Descriptor};
use crate::reference::Reference;
use hosts::{Endpoint, foreign};

pub use challenge::Challenge;
pub use credentials::{Credential, CredentialsError, Keyring};
pub use hosts::Hosts;

const USER_AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));
/// Tries of one request that may succeed later.
const MAX_ATTEMPTS: u32 = 5;
/// Of them, those that met silence; a mirror gets one, as somebody else may be asked.
const MAX_SILENCES: u32 = 2;
/// How often in turn a download goes on that was cut, or stood still, without having come on by `RESUMED_BYTES`.
const MAX_CUTS: u32 = 10;
const MAX_STALLS: u32 = 3;
const RESUMED_BYTES: u64 = 64 << 10;
const MAX_REDIRECTS: u32 = 5;
/// The longest that a registry may send us away for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The head of an answer.
const MAX_HEAD_BYTES: usize = 400 << 10;
const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_TOKEN_BYTES: u64 = 1 << 20;
const MAX_TOKENS: usize = 1024;
/// Addresses of one layer that are tried.
const MAX_URLS: usize = 4;

/// How long a registry is waited for. A download may take any time while it comes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub connect: Duration,
    /// For the head of an answer, and for each `idle_bytes` of its body, or for the end of it.
    pub idle: Duration,
    pub idle_bytes: u64,
    /// For the whole of a manifest, a token, an error.
    pub document: Duration,
    /// Before the second try; before each further one twice as long as before the last.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            idle_bytes: 1 << 10,
            document: Duration::from_secs(120),
            pause: Duration::from_millis(200),
        }
    }
}

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
    #[error("{host} sent no {what} within {}", shown(*waited))]
    Silent { host: String, what: &'static str, waited: Duration },
    #[error("{host} redirects {why}")]
    Redirect { host: String, why: String },
    #[error("layer {digest} may be fetched from `{url}` alone, which is refused: {why}")]
    Url { digest: Digest, url: String, why: &'static str },
    #[error("{host} asks for an authentication that we do not know: `{challenge}`")]
    Challenge { host: String, challenge: String },
    #[error("{host} sent a {what} of more than {limit} bytes")]
    TooLarge { host: String, what: &'static str, limit: u64 },
    #[error("{host} sent a token that cannot be read")]
    Token { host: String },
    #[error("{host} cut the download of {digest} after {received} of {size} bytes")]
    Cut { host: String, digest: Digest, received: u64, size: u64 },
    #[error("{host} stopped in the middle of {digest}: {received} of {size} bytes came, then {stalls} times too little within {}", shown(*waited))]
    Stalled { host: String, digest: Digest, received: u64, size: u64, stalls: u32, waited: Duration },
    #[error("{host} sent more for {digest} than the {size} bytes of its manifest")]
    TooMuch { host: String, digest: Digest, size: u64 },
    #[error("{host} has {found} bytes for {digest} instead of the {size} of its manifest")]
    Size { host: String, digest: Digest, size: u64, found: u64 },
}

fn shown(time: Duration) -> String {
    if time.as_secs() > 0 {
        format!("{} seconds", time.as_secs())
    } else {
        format!("{} milliseconds", time.as_millis())
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// Whether other credentials, or another host, may do better.
    pub(crate) fn is_about_us(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// Whether another try would meet the same.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Redirect { .. }
            | Self::Url { .. }
            | Self::Challenge { .. }
            | Self::TooLarge { .. }
            | Self::TooMuch { .. }
            | Self::Size { .. } => true,
            Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::Silent { .. }
            | Self::Token { .. }
            | Self::Cut { .. }
            | Self::Stalled { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some("check the name and the tag; a name without a registry is one of docker.io"),
            Self::Denied { .. } => Some(
                "log in with `docker login`, or give the pod `imagePullSecrets`; some registries say this of names they do not have",
            ),
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Cut { .. } | Self::Stalled { .. } => {
                Some("check the network; mirrors and registries without TLS stand in `images/registries.json`")
            }
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                Some("wait, log in with `docker login`, or name a mirror in `images/registries.json`")
            }
            Self::Size { .. } | Self::TooMuch { .. } => {
                Some("the registry holds something else than was pushed: push it again")
            }
            Self::Url { .. } => Some("push the layer to the registry together with its image"),
            _ => None,
        }
    }
}

type Http = Client<HttpsConnector<HttpConnector>, Body>;
type Body = http_body_util::Either<Empty<Bytes>, http_body_util::Full<Bytes>>;

/// Speaks to any registry; cheap to clone, and keeps connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    http: Http,
    hosts: Arc<Hosts>,
    patience: Patience,
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
    /// Which endpoint may be asked instead.
    next: Option<usize>,
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
        Self::with_patience(hosts, Patience::default())
    }

    pub fn with_patience(hosts: Hosts, patience: Patience) -> Self {
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
        connector.set_connect_timeout(Some(patience.connect));
        connector.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Self {
            http: Client::builder(TokioExecutor::new()).http1_max_buf_size(MAX_HEAD_BYTES).build(connector),
            hosts: Arc::new(hosts),
            patience,
            tokens: Arc::default(),
        }
    }

    /// Finds a manifest: at each mirror and then at the registry, as each of those we may be; `from` skips the first of them.
    pub(crate) async fn resolve(
        &self,
        reference: &Reference,
        credentials: &[Credential],
        limit: u64,
        from: usize,
    ) -> Result<(Session, Served), RegistryError> {
        let mut last = None;
        for (index, endpoint) in self.hosts.endpoints(reference.registry()).into_iter().enumerate().skip(from) {
            // Mirrors are not the registry that the credentials are for.
            let known = if endpoint.is_mirror { &[] } else { credentials };
            for credential in known.iter().map(Some).chain([None]) {
                let session = Session {
                    registry: self.clone(),
                    endpoint: endpoint.clone(),
                    repository: reference.repository().to_owned(),
                    credential: credential.cloned(),
                    next: endpoint.is_mirror.then_some(index + 1),
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
    pub(crate) fn patience(&self) -> Patience {
        self.registry.patience
    }

    /// The endpoint to ask when this one, a mirror, turns out to be of no use.
    pub(crate) fn next(&self) -> Option<usize> {
        self.next
    }

    pub(crate) async fn manifest(&self, name: &str, limit: u64) -> Result<Served, RegistryError> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let accept = HeaderValue::from_str(&ACCEPTED.join(", ")).expect("media types are plain text");
        let (response, host) = self.get(&path, &[(header::ACCEPT, accept)]).await?;
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = read_body(response.into_body(), limit, "manifest", &host, self.registry.patience).await?;
        Ok(Served { bytes, content_type })
    }

    /// A small blob, whole.
    pub(crate) async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let (sender, mut receiver) = mpsc::channel(4);
        let descriptor = descriptor.clone();
        if descriptor.size > limit {
            let host = self.endpoint.authority.clone();
            return Err(RegistryError::TooLarge { host, what: "blob", limit });
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
        if let Some(bytes) = descriptor.inline() {
            received(descriptor.size);
            // Whoever no longer listens knows already.
            let _gone = sink.send(Chunk::Data(bytes.into())).await;
            let _gone = sink.send(Chunk::End).await;
            return Ok(());
        }
        let path = format!("/v2/{}/blobs/{}", self.repository, descriptor.digest);
        match self.stream(&path, descriptor, &sink, &received).await {
            Err(absent @ RegistryError::NotFound { .. }) if descriptor.is_foreign() => {
                self.elsewhere(absent, descriptor, &sink, &received).await
            }
            result => result,
        }
    }

    /// What registries may not distribute is fetched from where its descriptor says: over TLS, as nobody.
    async fn elsewhere(
        &self,
        absent: RegistryError,
        descriptor: &Descriptor,
        sink: &mpsc::Sender<Chunk>,
        received: &impl Fn(u64),
    ) -> Result<(), RegistryError> {
        let mut last = absent;
        for url in descriptor.urls.iter().take(MAX_URLS) {
            let refused = |why| RegistryError::Url { digest: descriptor.digest.clone(), url: url.clone(), why };
            let result = match foreign(url, &self.endpoint) {
                Ok((endpoint, path)) => {
                    let session = Self { endpoint, credential: None, next: None, ..self.clone() };
                    session.stream(&path, descriptor, sink, received).await
                }
                Err(why) => Err(refused(why)),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error @ (RegistryError::NotFound { .. } | RegistryError::Url { .. })) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn stream(
        &self,
        path: &str,
        descriptor: &Descriptor,
        sink: &mpsc::Sender<Chunk>,
        received: &impl Fn(u64),
    ) -> Result<(), RegistryError> {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        let mut have: u64 = 0;
        let mut fruitless = 0;
        loop {
            let before = have;
            let cut = |host: String, received| RegistryError::Cut { host, digest: digest.clone(), received, size };
            let (response, host, part) = self.rest(path, have).await?;
            let Some(part) = part else { return Err(cut(host, have)) };
            if let Some(found) = part.whole.filter(|whole| *whole != size) {
                return Err(RegistryError::Size { host, digest: digest.clone(), size, found });
            }
            let ends = part.ends(&response);
            let mut skip = part.skip;
            let mut flow = Flow::new(response.into_body(), self.registry.patience);
            let stalled = loop {
                let mut chunk = match flow.next().await {
                    Some(Ok(chunk)) => chunk,
                    None if ends && have < size => {
                        return Err(RegistryError::Size { host, digest: digest.clone(), size, found: have });
                    }
                    None | Some(Err(Broken::Cut)) => break false,
                    Some(Err(Broken::Stalled)) => break true,
                };
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
            };
            if have == size {
                // Whoever no longer listens knows already.
                let _gone = sink.send(Chunk::End).await;
                return Ok(());
            }
            fruitless = if have - before >= RESUMED_BYTES { 0 } else { fruitless + 1 };
            tracing::debug!(host, %digest, have, size, stalled, "Download broken off");
            if stalled && fruitless >= MAX_STALLS {
                let (digest, waited) = (digest.clone(), self.registry.patience.idle);
                return Err(RegistryError::Stalled { host, digest, received: have, size, stalls: fruitless, waited });
            }
            if fruitless > MAX_CUTS {
                return Err(cut(host, have));
            }
            tokio::time::sleep(self.delay(fruitless.min(4))).await;
        }
    }

    /// Asks for a blob from where we are; for all of it when the registry refuses that, or gives another part.
    async fn rest(&self, path: &str, have: u64) -> Result<(Response<Incoming>, String, Option<Part>), RegistryError> {
        if have > 0 {
            let range = HeaderValue::from_str(&format!("bytes={have}-")).expect("digits");
            match self.get(path, &[(header::RANGE, range)]).await {
                Err(RegistryError::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) => {}
                asked => {
                    let (response, host) = asked?;
                    if let Some(part) = Part::of(&response, have) {
                        return Ok((response, host, Some(part)));
                    }
                }
            }
        }
        let (response, host) = self.get(path, &[]).await?;
        let part = Part::of(&response, have);
        Ok((response, host, part))
    }
}

/// Where an answer fits into a blob.
struct Part {
    /// Bytes at its beginning that are here already: a server that knows no ranges sends everything again.
    skip: u64,
    /// How large the server says the blob is.
    whole: Option<u64>,
}

impl Part {
    /// `None` for another part than was asked for.
    fn of<B>(response: &Response<B>, have: u64) -> Option<Self> {
        let length = number(response.headers(), &header::CONTENT_LENGTH);
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Some(Self { skip: have, whole: length });
        }
        let (start, whole) = content_range(response.headers())?;
        (start == have).then_some(Self { skip: 0, whole })
    }

    /// Whether the end of a body is told apart from a cut.
    fn ends<B>(&self, response: &Response<B>) -> bool {
        response.headers().contains_key(header::CONTENT_LENGTH)
            || response.headers().contains_key(header::TRANSFER_ENCODING)
    }
}

/// A body with an eye on the clock: what counts is the time that we wait for it, not what we do with it.
struct Flow {
    body: Incoming,
    patience: Patience,
    waited: Duration,
    came: u64,
}

enum Broken {
    Cut,
    Stalled,
}

impl Flow {
    fn new(body: Incoming, patience: Patience) -> Self {
        Self { body, patience, waited: Duration::ZERO, came: 0 }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            let since = Instant::now();
            let rest = self.patience.idle.saturating_sub(self.waited);
            let frame = match tokio::time::timeout(rest, self.body.frame()).await {
                Err(_) => return Some(Err(Broken::Stalled)),
                Ok(None) => return None,
                Ok(Some(Err(_))) => return Some(Err(Broken::Cut)),
                Ok(Some(Ok(frame))) => frame,
            };
            self.waited += since.elapsed();
            let Ok(data) = frame.into_data() else { continue };
            self.came += data.len() as u64;
            if self.came >= self.patience.idle_bytes {
                (self.came, self.waited) = (0, Duration::ZERO);
            }
            return Some(Ok(data));
        }
    }
}

async fn read_body(
    body: Incoming,
    limit: u64,
    what: &'static str,
    host: &str,
    patience: Patience,
) -> Result<Vec<u8>, RegistryError> {
    let silent = |waited| RegistryError::Silent { host: host.to_owned(), what, waited };
    let read = async {
        let mut flow = Flow::new(body, patience);
        let mut bytes = Vec::new();
        while let Some(chunk) = flow.next().await {
            bytes.extend_from_slice(&chunk.map_err(|broken| match broken {
                Broken::Cut => {
                    RegistryError::Unreachable { host: host.to_owned(), why: "the answer was cut".to_owned() }
                }
                Broken::Stalled => silent(patience.idle),
            })?);
            if bytes.len() as u64 > limit {
                return Err(RegistryError::TooLarge { host: host.to_owned(), what, limit });
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(patience.document, read).await.unwrap_or_else(|_| Err(silent(patience.document)))
}

fn number(headers: &http::HeaderMap, name: &http::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes START-END/WHOLE`, where the whole may be unknown.
fn content_range(headers: &http::HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/').unwrap_or((value.get(6..)?, "*"));
    Some((range.split_once('-')?.0.trim().parse().ok()?, whole.trim().parse().ok()))
}
