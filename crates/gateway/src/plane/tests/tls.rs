//! HTTPS from the client's side: who is shown which certificate, what its requests become, and that changes harm nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, request, response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde_json::{Value, json};
use sluice_route::{CertificateId, Change, SecretFacts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::town::{Backend, DEADLINE, Town, key};
use crate::plane::{Certificate, Certificates, Credentials};

const CLIENTS: usize = 8;
const CHANGES: u64 = 100;

/// Vouches for every certificate of a test, and knows those that are served.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    served: Certificates,
    named: BTreeMap<String, CertificateId>,
    last: u64,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Self { issuer, served: BTreeMap::new(), named: BTreeMap::new(), last: 0 }
    }

    /// A new certificate in this Secret; served with the next table.
    fn secret(&mut self, town: &mut Town, name: &str, host: &str) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        let key_pair = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key_pair, &self.issuer).expect("a certificate");
        let read = Certificate::read(made.pem().as_bytes(), key_pair.serialize_pem().as_bytes());
        self.last += 1;
        let id = CertificateId(self.last);
        self.served.insert(id, Arc::new(read.expect("a certificate")));
        self.named.insert(name.to_owned(), id);
        town.plane().certify(self.credentials());
        town.apply(Change::Secret(key(name), Some(SecretFacts::Certificate(id))));
        made.der().clone()
    }

    /// What no table names that any worker still serves.
    fn forget(&mut self, town: &Town) {
        self.served.retain(|id, _| self.named.values().any(|named| named == id));
        town.plane().certify(self.credentials());
    }

    fn credentials(&self) -> Credentials {
        Credentials { certificates: self.served.clone(), ..Credentials::default() }
    }

    /// Trusts the authority and offers these protocols.
    fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn https(name: &str, host: &str, secret: &str) -> Value {
    json!({"name": name, "port": 80, "protocol": "HTTPS", "hostname": host,
        "tls": {"certificateRefs": [{"name": secret}]}})
}

async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    server_name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(server_name.to_owned()).expect("a name");
    let connected = tokio::time::timeout(DEADLINE, TlsConnector::from(config.clone()).connect(name, stream));
    connected.await.expect("a handshake in time")
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").clone().into_owned()
}

/// A client in the protocol that was agreed on.
enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
            tokio::spawn(connection);
            return Self::Http2(sender);
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    /// Head and body of the answer.
    async fn get(&mut self, host: &str, path: &str) -> (response::Parts, String) {
        let request = |builder: request::Builder| builder.body(Full::default()).expect("a request");
        let exchange = async {
            let answer = match self {
                Self::Http1(sender) => {
                    sender.ready().await.expect("an open connection");
                    sender.send_request(request(Request::get(path).header("host", host))).await
                }
                Self::Http2(sender) => {
                    sender.send_request(request(Request::get(format!("https://{host}{path}")))).await
                }
            };
            let (head, body) = answer.expect("an answer").into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            (head, String::from_utf8_lossy(&body).into_owned())
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time")
    }

    async fn status(&mut self, host: &str) -> u16 {
        self.get(host, "/").await.0.status.as_u16()
    }
}

/// These listeners before Service `shop`, and a redirect of `/old`.
async fn town_with(listeners: &Value) -> (Town, Backend) {
    let moved = json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "new.org"}}]);
    let old = json!([{"path": {"type": "PathPrefix", "value": "/old"}}]);
    let mut town = Town::with_rules(
        2,
        json!([{"matches": old, "filters": moved}, {"backendRefs": [{"name": "shop", "port": 80}]}]),
    );
    town.listeners(listeners);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    (town, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_tls_are_known_as_such() {
    let mut authority = Authority::new();
    let (mut town, _backend) = town_with(&json!([https("any", "", "any")])).await;
    authority.secret(&mut town, "any", "shop.org");
    town.publish().await;
    for protocols in [&["http/1.1"][..], &[], &["h2", "http/1.1"], &["h2"]] {
        let stream = connect(town.address, &authority.client(protocols), "shop.org").await.expect("a connection");
        let agreed = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(agreed.as_deref(), protocols.first().copied());
        let mut client = Client::over(stream).await;
        let (_, seen) = client.get("shop.org", "/echo").await;
        let seen: Value = serde_json::from_str(&seen).expect("an echo");
        assert_eq!(seen["headers"]["x-forwarded-proto"], "https", "{protocols:?}");
        for (host, location) in [("shop.org", "https://new.org/old/1"), ("shop.org:8443", "https://new.org:8443/old/1")]
        {
            let (head, _) = client.get(host, "/old/1").await;
            assert_eq!((head.status.as_u16(), &head.headers["location"]), (302, &location.parse().expect("a value")));
        }
    }
    // What no protocol is in common with, or no TLS at all, is not served.
    assert!(connect(town.address, &authority.client(&["imap"]), "shop.org").await.is_err());
    let mut plain = TcpStream::connect(town.address).await.expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: shop.org\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    // An end or a reset: both are no answer.
    let _ = tokio::time::timeout(DEADLINE, plain.read_to_end(&mut answer)).await.expect("an end in time");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_has_its_certificate_and_its_requests() {
    let mut authority = Authority::new();
    let listeners = [https("any", "", "any"), https("wild", "*.shop.org", "wild"), https("bad", "bad.org", "gone")];
    let (mut town, _backend) = town_with(&json!(listeners)).await;
    let any = authority.secret(&mut town, "any", "else.org");
    let wild = authority.secret(&mut town, "wild", "*.shop.org");
    town.publish().await;
    let config = authority.client(&["h2"]);
    for (name, expected) in [("else.org", &any), ("a.shop.org", &wild)] {
        let stream = connect(town.address, &config, name).await.expect("a connection");
        assert_eq!(shown(&stream), *expected, "{name}");
        let mut client = Client::over(stream).await;
        let mine = |host: &str| host.ends_with(".shop.org") == (name == "a.shop.org");
        for host in ["else.org", "a.shop.org", "b.shop.org"] {
            assert_eq!(client.status(host).await, if mine(host) { 200 } else { 421 }, "{host} by {name}");
        }
    }
    // The listener without a certificate is as good as not there; the certificate of another one is no use to its clients.
    assert!(connect(town.address, &config, "bad.org").await.is_err());

    town.listeners(&json!([https("wild", "*.shop.org", "wild")]));
    let stream = connect(town.address, &config, "else.org").await.expect("still the former table");
    town.publish().await;
    let error = connect(town.address, &config, "else.org").await.expect_err("no listener for it any more");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    // Its connection is not cut, but has no listener any more.
    assert_eq!(Client::over(stream).await.status("else.org").await, 404);
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_again_resumes_its_session() {
    let mut authority = Authority::new();
    let (mut town, _backend) = town_with(&json!([https("any", "", "any")])).await;
    authority.secret(&mut town, "any", "shop.org");
    town.publish().await;
    let config = authority.client(&[]);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let stream = connect(town.address, &config, "shop.org").await.expect("a connection");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        // Its ticket comes before the answer.
        assert_eq!(Client::over(stream).await.status("shop.org").await, 200);
    }
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_changed_under_load_fail_no_request() {
    let mut authority = Authority::new();
    let (mut town, _backend) = town_with(&json!([https("any", "", "any"), https("own", "own.org", "own")])).await;
    authority.secret(&mut town, "any", "shop.org");
    let own = authority.secret(&mut town, "own", "own.org");
    town.publish().await;

    let done = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let (address, mut clients) = (town.address, Vec::new());
    for number in 0..CLIENTS {
        let config = authority.client(&[if number % 2 == 0 { "h2" } else { "http/1.1" }]);
        let (done, sent) = (done.clone(), sent.clone());
        clients.push(tokio::spawn(async move {
            let connected = async || connect(address, &config, "shop.org").await.expect("a connection");
            let mut client = Client::over(connected().await).await;
            while !done.load(Ordering::Relaxed) {
                // Half of them stay on their first connection.
                if number < CLIENTS / 2 {
                    client = Client::over(connected().await).await;
                }
                assert_eq!(client.status("shop.org").await, 200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let config = authority.client(&[]);
    for _ in 0..CHANGES {
        let before = sent.load(Ordering::Relaxed);
        let fresh = authority.secret(&mut town, "any", "shop.org");
        town.publish().await;
        authority.forget(&town);
        assert_eq!(shown(&connect(address, &config, "shop.org").await.expect("a connection")), fresh);
        assert_eq!(shown(&connect(address, &config, "own.org").await.expect("a connection")), own);
        while sent.load(Ordering::Relaxed) < before + CLIENTS as u64 {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no failed request");
    }
    town.workers.stop().await;
}
