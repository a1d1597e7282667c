//! A plane with one listener, Services with backends of its own, and clients.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use serde_json::{Value, json};
use sluice_route::{
    Change, Compiler, EndpointFacts, Entrance, GatewayFacts, ObjectKey, PodFacts, PodRef, RolloutFacts, RouteFacts,
    ServiceFacts, ServicePort, SliceFacts, Table,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::plane::patience::Tick;
use crate::plane::{Door, Manners, Plane, Workers, limits, open};

/// Whatever a test waits for has to happen within this time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Town {
    pub(crate) workers: Workers,
    /// What `address` leads to.
    pub(crate) door: Door,
    pub(crate) address: SocketAddr,
    compiler: Compiler,
    table: Arc<Table>,
}

impl Town {
    /// One Gateway, one route to Service `shop`.
    pub(crate) fn new(workers: usize) -> Self {
        Self::with_rules(workers, json!([{"backendRefs": [{"name": "shop", "port": 80}]}]))
    }

    /// All limits of time are a fiftieth of what they are.
    pub(crate) fn impatient(rules: Value) -> Self {
        Self::with_manners(1, rules, Manners { tick: Tick(limits::TICK / 50), ..Manners::default() })
    }

    pub(crate) fn with_rules(workers: usize, rules: Value) -> Self {
        Self::with_manners(workers, rules, Manners::default())
    }

    fn with_manners(workers: usize, rules: Value, manners: Manners) -> Self {
        let workers = Workers::start(workers, manners).expect("workers start");
        let sockets = open(SocketAddr::from(([127, 0, 0, 1], 0)), workers.plane().workers()).expect("a free port");
        let address = sockets[0].local_addr().expect("bound");
        let door = workers.plane().serve(Entrance::Default, sockets);
        let mut town = Self { workers, door, address, compiler: Compiler::new(80), table: Arc::default() };
        let mut route = json!({"parentRefs": [{"name": "gw"}]});
        route["rules"] = rules;
        let route = serde_json::from_value(route).expect("a route");
        town.apply(Change::Class("sluice".into(), true));
        town.listeners(&json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
        town.apply(Change::Route(key("r"), Some(RouteFacts { generation: 1, created: 1, spec: route })));
        town.service("shop");
        town
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        self.workers.plane()
    }

    pub(crate) fn apply(&mut self, change: Change) {
        self.compiler.apply(change);
    }

    pub(crate) fn listeners(&mut self, listeners: &Value) {
        self.gateway(json!({"gatewayClassName": "sluice", "listeners": listeners}));
    }

    pub(crate) fn gateway(&mut self, spec: Value) {
        let spec = serde_json::from_value(spec).expect("a Gateway");
        self.apply(Change::Gateway(key("gw"), Some(GatewayFacts { generation: 1, created: 1, address: None, spec })));
    }

    pub(crate) fn service(&mut self, name: &str) {
        self.service_of(name, None);
    }

    pub(crate) fn service_of(&mut self, name: &str, app_protocol: Option<&str>) {
        let ports = vec![ServicePort { name: "http".into(), port: 80, app_protocol: app_protocol.map(str::to_owned) }];
        self.apply(Change::Service(key(name), Some(ServiceFacts { ports })));
    }

    /// The backend as a ready pod of this Service.
    pub(crate) fn add(&mut self, service: &str, backend: &Backend, hash: &str) {
        let name = backend.name.as_str();
        let replica_set = Some(format!("{service}-{hash}"));
        let facts = PodFacts { uid: format!("uid-{name}"), hash: hash.into(), replica_set, terminating: false };
        self.apply(Change::Pod(key(name), Some(facts)));
        let pod = PodRef { name: name.into(), uid: format!("uid-{name}") };
        let slice = SliceFacts {
            service: service.into(),
            ports: vec![ServicePort { name: "http".into(), port: backend.address.port(), ..Default::default() }],
            endpoints: vec![EndpointFacts { addresses: vec![backend.address.ip()], ready: true, pod: Some(pod) }],
        };
        self.apply(Change::Slice(key(name), Some(slice)));
    }

    pub(crate) fn remove(&mut self, backend: &Backend) {
        self.apply(Change::Pod(key(&backend.name), None));
        self.apply(Change::Slice(key(&backend.name), None));
    }

    pub(crate) fn expose(&mut self, exposure: Value) {
        let exposure = Some(serde_json::from_value(exposure).expect("an exposure"));
        self.apply(Change::Rollout(key("shop"), Some(RolloutFacts { target: "shop".into(), exposure })));
    }

    /// Compiles, publishes, and waits until every worker serves it.
    pub(crate) async fn publish(&mut self) {
        let Some(compiled) = self.compiler.compile() else { return };
        self.table = compiled.table.clone();
        self.plane().publish(compiled.table);
        self.wait("acknowledged", |town| town.plane().acknowledged() == town.table.generation).await;
    }

    /// Waits until no withdrawn pod has a request left.
    pub(crate) async fn drained(&self) {
        self.wait("drained", |town| town.draining().is_empty()).await;
    }

    pub(crate) fn draining(&self) -> Vec<Arc<str>> {
        self.plane().draining(&self.table)
    }

    async fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reached = async {
            while !holds(self) {
                self.plane().progress().await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("not {what} in time"));
    }

    /// Requests by version hash since the start.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        let snapshot = self.plane().snapshot();
        snapshot.into_iter().map(|(key, counts)| (key.hash, counts.requests)).collect()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// What a backend's answers need to know.
struct Desk {
    name: String,
    holding: Arc<Notify>,
    copies: mpsc::UnboundedSender<Value>,
    /// How often each target was asked for.
    asked: Mutex<BTreeMap<String, u32>>,
}

impl Desk {
    /// `/status/CODE`, `/sick/NAME` with 500 where that is our name, and `/flaky/CODE/TIMES`: this status for so many requests with the same query, then 200.
    fn status(&self, uri: &http::Uri) -> u16 {
        let number = |text: &str| text.parse().expect("a number");
        let path: Vec<&str> = uri.path().split('/').skip(1).collect();
        match path[..] {
            ["status", code] => number(code),
            ["sick", name] if name == self.name => 500,
            ["flaky", code, times] => {
                let mut asked = self.asked.lock().expect("not poisoned");
                let count = asked.entry(uri.to_string()).or_default();
                *count += 1;
                if *count > u32::from(number(times)) { 200 } else { number(code) }
            }
            _ => 200,
        }
    }
}

/// An HTTP server that answers with its name, and can be killed without notice.
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Told for each request to `/hold`.
    pub(crate) holding: Arc<Notify>,
    copies: mpsc::UnboundedReceiver<Value>,
    /// Dropped: the listener and every connection are closed at once.
    tasks: JoinSet<()>,
}

impl Backend {
    /// What it answers: `/status/CODE` with that status, `/flaky/CODE/TIMES` at first, `/echo` with the request's head and body, `/hold` never, all else with
    /// its name.
    pub(crate) async fn start(name: &str) -> Self {
        Self::serve(name, Self::listener().await, None)
    }

    /// Where another one was.
    pub(crate) async fn again(name: &str, address: SocketAddr) -> Self {
        Self::serve(name, TcpListener::bind(address).await.expect("nobody is there any more"), None)
    }

    /// Answers one request of each connection and closes that upon the second, without a word.
    pub(crate) async fn hasty(name: &str) -> Self {
        let listener = Self::listener().await;
        let address = listener.local_addr().expect("bound");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                connections.spawn(async move {
                    let mut head = [0; 4096];
                    // Requests of these tests come in one piece.
                    if matches!(stream.read(&mut head).await, Ok(1..))
                        && stream.write_all(answer.as_bytes()).await.is_ok()
                    {
                        let _second = stream.read(&mut head).await;
                    }
                });
            }
        });
        let (_sender, copies) = mpsc::unbounded_channel();
        Self { name: name.to_owned(), address, holding: Arc::default(), copies, tasks }
    }

    async fn listener() -> TcpListener {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        // An address of its own, as pods have.
        let ip = IpAddr::from([127, 65, (number >> 8) as u8, number as u8]);
        TcpListener::bind((ip, 0)).await.expect("a free port")
    }

    /// By TLS alone, as HTTP/1.1 or HTTP/2. Its echoes say what name it was asked for.
    pub(crate) async fn start_tls(name: &str, config: Arc<ServerConfig>) -> Self {
        Self::serve(name, Self::listener().await, Some(TlsAcceptor::from(config)))
    }

    fn serve(name: &str, listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        let holding = Arc::new(Notify::new());
        let (sender, copies) = mpsc::unbounded_channel();
        let desk =
            Arc::new(Desk { name: name.to_owned(), holding: holding.clone(), copies: sender, asked: Mutex::default() });
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let desk = desk.clone();
                if let Some(tls) = &tls {
                    connections.spawn(serve_tls(tls.clone(), stream, desk));
                    continue;
                }
                let service = service_fn(move |request| answer(desk.clone(), request));
                connections.spawn(async move {
                    // Ends with an error when the other side is killed, which is what some tests are about.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { name: name.to_owned(), address, holding, copies, tasks }
    }

    /// The next request that came as a copy, as an echo of it.
    pub(crate) async fn copy(&mut self) -> Value {
        tokio::time::timeout(DEADLINE, self.copies.recv()).await.expect("a copy in time").expect("the backend runs")
    }

    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The name that a client asked for by TLS.
#[derive(Clone)]
struct ServerName(Option<String>);

async fn serve_tls(tls: TlsAcceptor, stream: TcpStream, desk: Arc<Desk>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let asked = ServerName(stream.get_ref().1.server_name().map(str::to_owned));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(asked.clone());
        answer(desk.clone(), request)
    });
    // As above.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path == "/hold" {
        desk.holding.notify_one();
        std::future::pending::<()>().await;
    }
    if request.headers().contains_key("upgrade") {
        return Ok(upgraded(request));
    }
    let mut response = Response::new(Full::new(Bytes::from(desk.name.clone())));
    *response.status_mut() = desk.status(request.uri()).try_into().expect("a status code");
    let is_copy = request.headers().contains_key("x-sluice-mirror");
    // To the end of its body, whatever that is: the connection is to be used again.
    let echo = echo(request).await;
    if path == "/echo" {
        *response.body_mut() = Full::new(Bytes::from(echo.to_string()));
    }
    if is_copy {
        // The test may be over.
        let _ = desk.copies.send(echo);
    }
    Ok(response)
}

async fn echo(request: Request<Incoming>) -> Value {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: BTreeMap<&str, &str> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
    let mut echo = json!({"method": head.method.as_str(), "target": head.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body)});
    if let Some(ServerName(asked)) = head.extensions.get() {
        echo["serverName"] = json!(asked);
        echo["version"] = json!(format!("{:?}", head.version));
    }
    echo
}

/// Turns into an echo of bytes.
fn upgraded(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(stream));
        // Until the other side closes.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
    response.body(Full::default()).expect("a valid answer")
}

/// One keep-alive connection; opens another only when the gateway closed it between two requests.
pub(crate) struct Client {
    address: SocketAddr,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { address, sender }
    }

    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        self.send(Request::get(path), "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        self.send(Request::post(path), body).await
    }

    pub(crate) async fn send(&mut self, request: http::request::Builder, body: &str) -> (u16, String) {
        let response = self.exchange(request, body).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn exchange(&mut self, request: http::request::Builder, body: &str) -> Response<Incoming> {
        if self.sender.ready().await.is_err() {
            *self = Self::connect(self.address).await;
        }
        let request = if request.headers_ref().is_some_and(|headers| headers.contains_key("host")) {
            request
        } else {
            request.header("host", "shop.example.com")
        };
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request");
        let answer = tokio::time::timeout(DEADLINE, self.sender.send_request(request)).await;
        answer.expect("an answer in time").expect("an answer")
    }
}
