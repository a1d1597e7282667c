//! Starting a gateway, and the handle to a running one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use sluice_compare::Report;
use sluice_stats::VersionSnapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::{Control, Tasks, give_back};
use crate::options::GatewayOptions;
use crate::plane::{AccessLog, BookKey, CircuitCounts, Manners, MirrorCounts, Plane, VersionKey, Workers, open};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the gateway's workers")]
    Workers(#[source] io::Error),
}

pub struct Gateway;

impl Gateway {
    /// Binds the default listener and starts the workers; routes follow as the control side reads them through `client`. Until
    /// then connections wait to be taken.
    #[expect(clippy::unused_async, reason = "must be called inside a runtime")]
    pub async fn start(client: Client, options: GatewayOptions) -> Result<GatewayHandle, StartError> {
        let count = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let listen = |source| StartError::Listen { address: options.address, source };
        let sockets = open(options.address, count).map_err(listen)?;
        let address = sockets[0].local_addr().map_err(listen)?;
        let log = options.access_log.map(|format| AccessLog::start(format, io::stdout())).transpose();
        let manners = Manners {
            trusted: options.trusted_proxies.clone(),
            log: log.map_err(StartError::Workers)?,
            ..Manners::default()
        };
        let workers = Workers::start(count, manners).map_err(StartError::Workers)?;

        let options = GatewayOptions { address, ..options };
        let (ready, readiness) = watch::channel(false);
        let (control, updates, tasks) = Control::new(&client, workers.plane().clone(), sockets, &options, ready);
        let (stop, stopped) = watch::channel(false);
        let control = tokio::spawn(control.run(updates, stopped));
        tracing::info!(%address, workers = count, "Gateway listens");
        Ok(GatewayHandle { address, instance: options.instance, client, workers, control, tasks, stop, readiness })
    }
}

/// A running gateway; [`GatewayHandle::shutdown`] ends it with care, dropping it ends it without giving its Lease back.
pub struct GatewayHandle {
    address: SocketAddr,
    instance: String,
    client: Client,
    workers: Workers,
    control: JoinHandle<()>,
    tasks: Tasks,
    stop: watch::Sender<bool>,
    readiness: watch::Receiver<bool>,
}

/// Reads the counters of a gateway, for as long as anybody likes.
#[derive(Clone)]
pub struct Counters {
    plane: Arc<Plane>,
}

impl Counters {
    /// Counters since start of every version that got a request.
    pub fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.plane.snapshot()
    }

    /// Copies of requests that were meant for each version since start.
    pub fn mirrors(&self) -> BTreeMap<VersionKey, MirrorCounts> {
        self.plane.mirrors()
    }

    /// How often each version failed too much to be asked, and what became of the requests.
    pub fn circuits(&self) -> BTreeMap<VersionKey, CircuitCounts> {
        self.plane.circuits()
    }

    /// What was found about each candidate whose answers are, or were, compared with those of the stable version.
    pub fn comparisons(&self) -> BTreeMap<BookKey, Report> {
        self.plane.comparisons()
    }

    /// Everything that was counted, as Prometheus reads it.
    pub fn exposition(&self) -> String {
        self.plane.exposition()
    }

    /// Those of one version; zero if it never got a request.
    pub fn of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        self.plane.snapshot_of(namespace, hash)
    }
}

impl GatewayHandle {
    /// Where the default listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns once connections are taken, with the routes of the API known.
    pub fn served(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut readiness = self.readiness.clone();
        // The guard is not for whoever waits: while it is held the gateway cannot go on.
        async move { drop(readiness.wait_for(|ready| *ready).await) }
    }

    /// The newest routing table that every worker serves; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.workers.plane().acknowledged()
    }

    /// Counters since start of every version that got a request.
    pub fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.counters().snapshot()
    }

    /// A cheap handle to the counters alone.
    pub fn counters(&self) -> Counters {
        Counters { plane: self.workers.plane().clone() }
    }

    /// Takes no more connections, finishes the requests in flight within a bounded time and gives the Lease back.
    pub async fn shutdown(self) {
        let Self { address, instance, client, workers, control, tasks, stop, readiness: _ } = self;
        stop.send_replace(true);
        if let Err(error) = control.await {
            tracing::error!(%error, "Gateway control ended badly");
        }
        workers.stop().await;
        // After the last writer of the Lease: nobody puts it back.
        tasks.end().await;
        give_back(&client, &instance).await;
        tracing::info!(%address, "Gateway stopped");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use http::{Method, Request, Response};
    use kube::client::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// An API with nothing but Leases, which says so of everything else once it is `open`.
    fn hesitant(open: watch::Receiver<bool>) -> Client {
        Client::new(tower::service_fn(hesitant_service(open)), "default")
    }

    fn hesitant_service(
        open: watch::Receiver<bool>,
    ) -> impl FnMut(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + 'static {
        move |request: Request<Body>| {
            let mut open = open.clone();
            async move {
                let of_leases = request.uri().path().contains("/leases");
                let (status, body) = match (of_leases, request.method()) {
                    (true, &Method::GET) => (200, r#"{"kind":"LeaseList","metadata":{},"items":[]}"#),
                    (true, _) => (200, r#"{"kind":"Lease","metadata":{"name":"gateway-local"}}"#),
                    (false, _) => {
                        let _said = open.wait_for(|open| *open).await;
                        (404, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"","reason":"NotFound","code":404}"#)
                    }
                };
                let body = Body::from(body.as_bytes().to_vec());
                Ok(Response::builder().status(status).body(body).expect("a response"))
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn nothing_is_read_before_the_lease_is_announced() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let (_open, opened) = watch::channel(true);
        let mut api = hesitant_service(opened);
        let api = tower::service_fn(move |request: Request<Body>| {
            let what = format!("{} {}", request.method(), request.uri().path().rsplit('/').next().unwrap_or_default());
            noted.lock().expect("whole").push(what);
            api(request)
        });
        let options = GatewayOptions { workers: 1, ..GatewayOptions::default() };
        let gateway = Gateway::start(Client::new(api, "default"), options).await.expect("a gateway");
        timeout(Duration::from_secs(20), gateway.served()).await.expect("in time");
        assert_eq!(asked.lock().expect("whole")[..2], ["PATCH gateway-local", "GET leases"]);
        gateway.shutdown().await;
    }

    #[tokio::test]
    async fn a_request_that_comes_before_the_routes_are_known_waits_for_them() {
        let (open, opened) = watch::channel(false);
        let options = GatewayOptions { workers: 1, ..GatewayOptions::default() };
        let gateway = Gateway::start(hesitant(opened), options).await.expect("a gateway");
        let mut client = TcpStream::connect(gateway.address()).await.expect("it listens already");
        client.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await.expect("a request");
        let mut answer = String::new();
        let early = timeout(Duration::from_millis(200), client.read_to_string(&mut answer)).await;
        assert!(early.is_err(), "answered without knowing any route: {answer}");

        open.send_replace(true);
        let read = timeout(Duration::from_secs(20), client.read_to_string(&mut answer)).await;
        read.expect("in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        gateway.shutdown().await;
    }
}
