use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use sluice_api::{Options, Pki, Server, serve};
use sluice_store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::town::PATIENCE;

/// A caller: with the administrator's certificate or without any.
fn caller(pki: &Pki, with_certificate: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pki.ca.as_bytes()) {
        roots.add(certificate.expect("the authority is PEM")).expect("the authority is a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions exist");
    let config = config.with_root_certificates(roots);
    let config = if with_certificate {
        let certificate = CertificateDer::from_pem_slice(pki.client_certificate.as_bytes()).expect("it is PEM");
        let key = PrivateKeyDer::from_pem_slice(pki.client_key.as_bytes()).expect("it is PEM");
        config.with_client_auth_cert(vec![certificate], key).expect("key and certificate belong together")
    } else {
        config.with_no_client_auth()
    };
    TlsConnector::from(Arc::new(config))
}

async fn get(connector: &TlsConnector, address: std::net::SocketAddr, path: &str, token: &str) -> (StatusCode, Value) {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let name = ServerName::try_from("localhost").expect("this is a name");
    let stream = connector.connect(name, stream).await.expect("the certificates fit");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP begins");
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path).header("host", "localhost");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).expect("the request is well-formed");
    let response = sender.send_request(request).await.expect("the server answers");
    let code = response.status();
    let body = response.into_body().collect().await.expect("the answer comes whole").to_bytes();
    connection.abort();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_known_by_certificate_or_token_and_nobody_else_gets_in() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let pki = Pki::open(&dir.path().join("pki"), &[]).expect("certificates can be made");
    let again = Pki::open(&dir.path().join("pki"), &[]).expect("certificates can be read");
    assert_eq!((&pki.ca, &pki.admin_token), (&again.ca, &again.admin_token));
    let options = Options { admin_token: Some(pki.admin_token.clone()), ..Options::default() };
    let server = Server::start(Store::in_memory(), options).await.expect("an empty store can be started");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(server, listener, pki.server_tls().expect("TLS fits"), shutdown.clone()));

    let (nobody, admin) = (caller(&pki, false), caller(&pki, true));
    assert_eq!(get(&nobody, address, "/readyz", "").await.0, StatusCode::OK);
    assert_eq!(get(&nobody, address, "/version", "").await.1["gitVersion"], "v1.35.4+sluice");
    let (code, status) = get(&nobody, address, "/api/v1/namespaces/default/secrets", "").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let why = "secrets is forbidden: User \"system:anonymous\" cannot list resource \"secrets\" in API group \"\" in the \
               namespace \"default\"";
    assert_eq!(status["message"], why);
    assert_eq!(get(&nobody, address, "/api", "wrong").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&nobody, address, "/api/v1/pods", &pki.admin_token).await.0, StatusCode::OK);
    assert_eq!(get(&admin, address, "/api/v1/pods", "").await.0, StatusCode::OK);

    shutdown.cancel();
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("it ends in time")
        .expect("it does not panic")
        .expect("it ends well");
}
