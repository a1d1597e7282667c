//! Certificates of clients: who is let in, and what a backend is shown that asks for one.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use sluice_route::{AuthoritiesFacts, AuthoritiesId, CertificateId, Change, PolicyFacts, SecretFacts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::town::{Backend, DEADLINE, Town, key};
use super::trust::Authority;
use crate::plane::{Authorities, Certificate, Credentials};

/// Secrets and ConfigMaps of a test, all of them known to the workers.
#[derive(Default)]
struct Vault {
    credentials: Credentials,
}

impl Vault {
    /// This Secret with a certificate of this authority.
    fn secret(&mut self, town: &mut Town, name: &str, id: u64, authority: &Authority) {
        let (chain, key_pem) = authority.files("shop.org");
        let read = Certificate::read(chain.as_bytes(), key_pem.as_bytes()).expect("a certificate");
        self.credentials.certificates.insert(CertificateId(id), Arc::new(read));
        town.apply(Change::Secret(key(name), Some(SecretFacts::Certificate(CertificateId(id)))));
        town.plane().certify(self.credentials.clone());
    }

    fn authorities(&mut self, town: &mut Town, name: &str, id: u64, authority: &Authority) {
        let read = Authorities::read(Some(&authority.pem())).expect("an authority");
        self.credentials.authorities.insert(AuthoritiesId(id), Arc::new(read));
        town.apply(Change::Authorities(key(name), Some(AuthoritiesFacts::Known(AuthoritiesId(id)))));
        town.plane().certify(self.credentials.clone());
    }
}

/// One HTTPS listener, with these wishes about client certificates.
fn gateway(validation: &Value) -> Value {
    let listener = json!({"name": "s", "port": 80, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "own"}]}});
    json!({"gatewayClassName": "sluice", "listeners": [listener],
        "tls": {"frontend": {"default": {"validation": validation}}}})
}

fn believing(mode: Option<&str>) -> Value {
    json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}], "mode": mode})
}

/// A client that trusts `server`, and shows a certificate of `mine`.
fn client(server: &Authority, mine: Option<&Authority>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server.der()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let Some(mine) = mine else { return Arc::new(config.with_no_client_auth()) };
    let (chain, key) = mine.leaf("client");
    Arc::new(config.with_client_auth_cert(vec![chain], key).expect("a certificate with its key"))
}

async fn connect(town: &Town, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(town.address).await?;
    let name = ServerName::try_from("shop.org").expect("a name");
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// The status of one more request.
async fn ask(stream: &mut TlsStream<TcpStream>) -> io::Result<u16> {
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.org\r\n\r\n").await?;
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::UnexpectedEof.into())
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an answer or an end in time")
}

async fn reach(town: &Town, config: &Arc<ClientConfig>) -> io::Result<u16> {
    ask(&mut connect(town, config).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_lets_in_whoever_shows_what_it_asks_for() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut town = Town::new(1);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    let mut vault = Vault::default();
    vault.secret(&mut town, "own", 1, &ours);
    vault.authorities(&mut town, "ca", 1, &ours);
    let clients = [client(&ours, None), client(&ours, Some(&ours)), client(&ours, Some(&theirs))];
    for (validation, expected) in [
        (json!(null), [true, true, true]),
        (believing(None), [false, true, false]),
        (believing(Some("AllowValidOnly")), [false, true, false]),
        (believing(Some("AllowInsecureFallback")), [true, true, true]),
    ] {
        town.gateway(gateway(&validation));
        town.publish().await;
        for (client, expected) in clients.iter().zip(expected) {
            assert_eq!(reach(&town, client).await.is_ok_and(|status| status == 200), expected, "{validation}");
        }
    }
    // Other authorities count from the next connection on.
    town.gateway(gateway(&believing(None)));
    vault.authorities(&mut town, "ca", 2, &theirs);
    town.publish().await;
    let found = [reach(&town, &clients[1]).await.is_ok(), reach(&town, &clients[2]).await.is_ok()];
    assert_eq!(found, [false, true]);
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_from_before_certificates_were_asked_for_is_of_no_use_after() {
    let ours = Authority::new();
    let mut town = Town::new(1);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    let mut vault = Vault::default();
    vault.secret(&mut town, "own", 1, &ours);
    vault.authorities(&mut town, "ca", 1, &ours);
    town.gateway(gateway(&json!(null)));
    town.publish().await;
    let mut early = connect(&town, &client(&ours, Some(&ours))).await.expect("a connection");
    assert_eq!(ask(&mut early).await.expect("an answer"), 200);
    town.gateway(gateway(&believing(Some("AllowInsecureFallback"))));
    town.publish().await;
    assert_eq!(ask(&mut early).await.expect("an answer"), 200);
    town.gateway(gateway(&believing(None)));
    town.publish().await;
    assert_eq!(ask(&mut early).await.expect("an answer"), 421);
    assert_eq!(reach(&town, &client(&ours, Some(&ours))).await.expect("an answer"), 200);
    town.workers.stop().await;
}

/// A backend that lets nobody in but clients of `believed`.
fn demanding(server: &Authority, believed: &Authority) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(believed.der()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let (chain, key) = server.leaf("a.org");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(vec![chain], key);
    Arc::new(config.expect("a certificate with its key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_shown_the_gateways_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut town = Town::new(1);
    let backend = Backend::start_tls("a", demanding(&ours, &ours)).await;
    town.add("shop", &backend, "v1");
    let mut vault = Vault::default();
    vault.secret(&mut town, "ours", 1, &ours);
    vault.secret(&mut town, "theirs", 2, &theirs);
    vault.authorities(&mut town, "ca", 1, &ours);
    let target = json!({"group": "", "kind": "Service", "name": "shop"});
    let mut validation = believing(None);
    validation["hostname"] = json!("a.org");
    let spec = serde_json::from_value(json!({"targetRefs": [target], "validation": validation}));
    let policy = PolicyFacts { generation: 1, created: 1, spec: spec.expect("a policy") };
    town.apply(Change::Policy(key("p"), Some(policy)));
    let mut client = town.client().await;
    for (secret, expected) in [(None, 502), (Some("ours"), 200), (Some("theirs"), 502), (Some("gone"), 502)] {
        let reference = secret.map(|name| json!({"name": name}));
        town.gateway(
            json!({"gatewayClassName": "sluice", "listeners": [{"name": "h", "port": 80, "protocol": "HTTP"}],
            "tls": {"backend": {"clientCertificateRef": reference}}}),
        );
        town.publish().await;
        for _ in 0..2 {
            assert_eq!(client.get("/").await.0, expected, "{secret:?}");
        }
    }
    town.workers.stop().await;
}
