//! The server: a cheap handle that answers requests, with sockets or without.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use serde_json::Value;
use sluice_schema::Kind;
use sluice_store::Revision;
use tokio_util::sync::CancellationToken;

use crate::admission::{Addresses, QuotaQueues};
use crate::body::Body;
use crate::definitions::{self, Serving};
use crate::dispatch;
use crate::endpoints::Documents;
use crate::identity::Identity;
use crate::inner_wire;
use crate::live::Live;
use crate::logs::PodLogs;
use crate::meter::{Measures, Meter};
use crate::registry::Registry;
use crate::storage::Storage;
use crate::streams::PodStreams;
use crate::tokens::Tokens;

/// Anything a request body may fail with.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The Kubernetes API over a store. Clones share everything.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) registry: Registry,
    pub(crate) serving: Serving,
    pub(crate) addresses: Addresses,
    pub(crate) quota_queues: QuotaQueues,
    pub(crate) documents: Documents,
    pub(crate) meter: Meter,
    pub(crate) tokens: Tokens,
    pub(crate) logs: Option<Arc<dyn PodLogs>>,
    pub(crate) streams: Option<Arc<dyn PodStreams>>,
    live: Vec<Live>,
    pub(crate) measures: Option<Arc<dyn Measures>>,
    /// What was before this revision, nobody can have seen from this server: watches start after it.
    pub(crate) first: Revision,
    /// Ends watches and other streams.
    pub(crate) stopping: CancellationToken,
}

/// What a server is made of beside its store.
#[derive(Default)]
pub struct Options {
    /// The bearer token of the administrator; made up when absent.
    pub admin_token: Option<String>,
    /// Who reads the logs of pods; without, `pods/log` has nothing to say.
    pub logs: Option<Arc<dyn PodLogs>>,
    /// Who talks to pods; without, there is nobody to run a command.
    pub streams: Option<Arc<dyn PodStreams>>,
    /// Kinds whose objects are made when they are read.
    pub live: Vec<Live>,
    /// What others count, for `/metrics`.
    pub measures: Option<Arc<dyn Measures>>,
    /// Services get their addresses out of this network, with this prefix length; 10.96.0.0/12 when absent.
    pub service_network: Option<(std::net::Ipv4Addr, u8)>,
    /// Those that want IPv6 get it out of this one; without, there is IPv4 alone.
    pub service_network_v6: Option<(std::net::Ipv6Addr, u8)>,
}

impl Server {
    /// A server over this store, with the objects that every cluster has.
    pub async fn start(store: sluice_store::Store, options: Options) -> Result<Self, crate::StartError> {
        let first = store.progress().next();
        let live = options.live.iter().flat_map(|live| &live.kinds).cloned().map(Arc::new);
        let inner = Inner {
            first,
            storage: Storage::new(store),
            registry: Registry::new(crate::builtin::kinds().into_iter().chain(live).collect()),
            serving: Serving::default(),
            addresses: Addresses::new(options.service_network, options.service_network_v6),
            quota_queues: QuotaQueues::default(),
            documents: Documents::default(),
            meter: Meter::default(),
            tokens: Tokens::new(options.admin_token),
            logs: options.logs,
            streams: options.streams,
            live: options.live,
            measures: options.measures,
            stopping: CancellationToken::new(),
        };
        let server = Self { inner: Arc::new(inner) };
        crate::bootstrap::run(&server).await?;
        definitions::resume(&server).await.map_err(|refusal| crate::StartError::Resume(refusal.message()))?;
        crate::expiry::start(&server);
        Ok(server)
    }

    /// Creates definitions that come with the program, all at once. They must be valid, and of names that are not taken.
    pub async fn install_definitions(&self, manager: &str, definitions: &[Value]) -> Result<(), crate::StartError> {
        let installed = definitions::install(self, manager, definitions).await;
        installed.map_err(|refusal| crate::StartError::Install(refusal.message()))
    }

    /// The service that answers as if this user had asked. Give it to `kube::Client::new`.
    pub fn in_process(&self, user: Identity) -> InProcess {
        InProcess { server: self.clone(), user }
    }

    /// The administrator's bearer token.
    pub fn admin_token(&self) -> &str {
        self.inner.tokens.admin()
    }

    /// Ends all watches and log streams, so that connections can close.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// Where the objects of a kind come from that are not stored.
    pub(crate) fn live(&self, kind: &Kind) -> Option<&Live> {
        self.inner.live.iter().find(|live| live.serves(kind))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// The API as a service in this process, for one user.
#[derive(Debug, Clone)]
pub struct InProcess {
    server: Server,
    user: Identity,
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        if request.headers().contains_key(http::header::UPGRADE) {
            return Box::pin(async move { Ok(inner_wire::answer(server, user, request.into_parts().0).await) });
        }
        Box::pin(async move { Ok(dispatch::answer(&server, Ok(user), request).await) })
    }
}
