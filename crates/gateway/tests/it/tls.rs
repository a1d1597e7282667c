//! HTTPS listeners: from Secrets to handshakes and statuses.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::World;

const RESOLVED: &str =
    "Accepted=True/Accepted Conflicted=False/NoConflicts Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs";

/// A Secret that vouches for these hosts by itself.
async fn secret(world: &World, namespace: &str, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).expect("a certificate");
    put_secret(world, namespace, name, &made.cert.pem(), &made.signing_key.serialize_pem()).await;
    made.cert.der().clone()
}

async fn put_secret(world: &World, namespace: &str, name: &str, chain: &str, key: &str) {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    world
        .apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/tls", "data": {"tls.crt": encode(chain), "tls.key": encode(key)}}))
        .await;
}

fn https(port: u16, reference: &Value) -> Value {
    json!({"name": "https", "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [reference]}})
}

fn free_port() -> u16 {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    free.local_addr().expect("bound").port()
}

/// `GET /` for host `shop`; an error when the server cannot show this very certificate.
async fn get(port: u16, certificate: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let name = ServerName::try_from("shop").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn wait_for_listener(world: &World, expected: &str) {
    world
        .wait(&format!("the listener says {expected}"), async || {
            let status = world.status("Gateway", "gw").await;
            let listener = &status["listeners"][0];
            listener["name"] == "https" && World::words(&listener["conditions"]).contains(expected)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_serves_the_certificate_of_its_secret_and_its_next_one() {
    let world = World::start().await;
    world.shop().await;
    world.pod("one", "v1").await;
    let first = secret(&world, "default", "cert", &["shop"]).await;
    let port = free_port();
    world.gateway("gw", json!([https(port, &json!({"name": "cert"}))])).await;
    wait_for_listener(&world, RESOLVED).await;
    let answer = get(port, &first).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("one"), "{answer}");

    let second = secret(&world, "default", "cert", &["shop"]).await;
    world.wait("the new certificate is served", async || get(port, &second).await.is_ok()).await;
    assert!(get(port, &first).await.is_err());
    world.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_says_what_becomes_of_its_certificate() {
    let world = World::start().await;
    world.shop().await;
    world.pod("one", "v1").await;
    world.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "them"}})).await;
    let neighbour = secret(&world, "default", "neighbour", &["shop"]).await;
    let (port, other_port) = (free_port(), free_port());
    let mut beside = https(other_port, &json!({"name": "neighbour"}));
    beside["name"] = json!("beside");
    let reference = json!({"name": "cert", "namespace": "them"});
    world.gateway("gw", json!([https(port, &reference), beside])).await;
    wait_for_listener(&world, "Programmed=False/Invalid ResolvedRefs=False/RefNotPermitted").await;

    world
        .apply(json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"name": "grant", "namespace": "them"},
            "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}],
                "to": [{"group": "", "kind": "Secret"}]}}))
        .await;
    wait_for_listener(&world, "Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef").await;
    assert!(get(other_port, &neighbour).await.is_ok(), "the neighbour is served all the time");

    let certificate = secret(&world, "them", "cert", &["shop"]).await;
    wait_for_listener(&world, RESOLVED).await;
    assert!(get(port, &certificate).await.is_ok());

    put_secret(&world, "them", "cert", "Hello world", "Hello world").await;
    wait_for_listener(&world, "Programmed=True/Programmed ResolvedRefs=False/InvalidCertificateRef").await;
    let conditions = world.status("Gateway", "gw").await["listeners"][0]["conditions"].clone();
    let messages: Vec<&str> =
        conditions.as_array().into_iter().flatten().filter_map(|c| c["message"].as_str()).collect();
    let expected = "Secret `them/cert` is no certificate any more, the last one is served on: `tls.crt` is not a chain of \
                    certificates in PEM";
    assert!(messages.contains(&expected), "{messages:?}");
    assert!(get(port, &certificate).await.is_ok(), "the last good one is served on");
    assert!(get(other_port, &neighbour).await.is_ok());

    let certificate = secret(&world, "them", "cert", &["shop"]).await;
    wait_for_listener(&world, RESOLVED).await;
    assert!(get(port, &certificate).await.is_ok());
    world.delete("Secret", "them", "cert").await;
    wait_for_listener(&world, "Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef").await;
    world.wait("its port is closed", async || get(port, &certificate).await.is_err()).await;
    assert!(get(other_port, &neighbour).await.is_ok());
    world.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_again_serves_its_certificates_at_once() {
    let world = World::start().await;
    world.shop().await;
    world.pod("one", "v1").await;
    let certificate = secret(&world, "default", "cert", &["shop"]).await;
    let port = free_port();
    world.gateway("gw", json!([https(port, &json!({"name": "cert"}))])).await;
    wait_for_listener(&world, RESOLVED).await;
    let before = world.status("Gateway", "gw").await;
    let world = world.restart().await;
    world.wait("it is served again", async || get(port, &certificate).await.is_ok()).await;
    assert_eq!(
        world.status("Gateway", "gw").await["listeners"],
        before["listeners"],
        "nothing else was said meanwhile"
    );
    world.gateway.shutdown().await;
}
