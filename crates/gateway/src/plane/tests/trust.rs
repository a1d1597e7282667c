//! TLS with backends: who is believed, what they are asked for, and that a change of terms counts from the next request on.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sluice_route::{AuthoritiesFacts, AuthoritiesId, Change, PolicyFacts};

use super::town::{Backend, Town, key};
use crate::plane::{Authorities, Credentials};

/// Signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn sign(&self, host: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    pub(super) fn leaf(&self, host: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (made, key) = self.sign(host);
        (made.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    /// As a Secret holds it.
    pub(super) fn files(&self, host: &str) -> (String, String) {
        let (made, key) = self.sign(host);
        (made.pem(), key.serialize_pem())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server that is `host` and speaks these protocols.
    fn server(&self, host: &str, protocols: &[&str]) -> Arc<ServerConfig> {
        let (chain, key) = self.leaf(host);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate with its key");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Town {
    /// The ConfigMaps `1`, `2`, ... with one of these each.
    fn believe(&mut self, authorities: &[&Authority]) {
        let known = (1..).map(AuthoritiesId).zip(
            authorities
                .iter()
                .map(|authority| Arc::new(Authorities::read(Some(&authority.pem())).expect("an authority"))),
        );
        let known: std::collections::BTreeMap<_, _> = known.collect();
        for id in known.keys() {
            self.apply(Change::Authorities(key(&id.0.to_string()), Some(AuthoritiesFacts::Known(*id))));
        }
        self.plane().certify(Credentials { authorities: known, ..Credentials::default() });
    }

    fn policy(&mut self, validation: &Value) {
        let target = json!({"group": "", "kind": "Service", "name": "shop"});
        let spec = serde_json::from_value(json!({"targetRefs": [target], "validation": validation}));
        let spec = spec.expect("a policy");
        self.apply(Change::Policy(key("p"), Some(PolicyFacts { generation: 1, created: 1, spec })));
    }
}

fn believing(config_map: &str, hostname: &str) -> Value {
    json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": config_map}], "hostname": hostname})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_must_prove_what_its_policy_asks_for() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (app_protocol, protocols, version) in [
        (None, &["http/1.1"][..], "HTTP/1.1"),
        (None, &[], "HTTP/1.1"),
        (Some("https"), &["h2", "http/1.1"], "HTTP/1.1"),
        (Some("kubernetes.io/h2c"), &["h2", "http/1.1"], "HTTP/2.0"),
    ] {
        let backend = Backend::start_tls("a", ours.server("a.org", protocols)).await;
        let mut town = Town::new(1);
        town.service_of("shop", app_protocol);
        town.add("shop", &backend, "v1");
        town.believe(&[&ours, &theirs]);
        let mut client = town.client().await;
        let mut other_name = believing("1", "b.org");
        other_name["subjectAltNames"] = json!([{"type": "Hostname", "hostname": "a.org"}]);
        let mut another = believing("1", "a.org");
        another["subjectAltNames"] = json!([{"type": "Hostname", "hostname": "b.org"}]);
        for (validation, expected) in [
            (believing("1", "a.org"), Ok("a.org")),
            (believing("2", "a.org"), Err((502, "backend-tls"))),
            (believing("1", "A.org"), Ok("a.org")),
            (believing("1", "b.org"), Err((502, "backend-tls"))),
            (other_name, Ok("b.org")),
            (another, Err((502, "backend-tls"))),
            (believing("3", "a.org"), Err((500, "untrusted-backend"))),
            (json!({"wellKnownCACertificates": "System", "hostname": "a.org"}), Err((502, "backend-tls"))),
        ] {
            town.policy(&validation);
            town.publish().await;
            // Twice: a connection that is kept has the same rights as a new one.
            for _ in 0..2 {
                let (status, body) = client.get("/echo").await;
                let body: Value = serde_json::from_str(&body).expect("JSON");
                match expected {
                    Ok(asked) => {
                        assert_eq!(status, 200, "{validation}: {body}");
                        assert_eq!((&body["serverName"], &body["version"]), (&json!(asked), &json!(version)));
                    }
                    Err((code, reason)) => {
                        assert_eq!((status, &body["reason"]), (code, &json!(reason)), "{validation}");
                    }
                }
            }
        }
        town.workers.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_in_the_open_where_a_policy_is() {
    let backend = Backend::start("open").await;
    let mut town = Town::new(1);
    let authority = Authority::new();
    town.add("shop", &backend, "v1");
    town.believe(&[&authority]);
    town.publish().await;
    let mut client = town.client().await;
    assert_eq!(client.get("/").await, (200, "open".into()));
    town.policy(&believing("1", "a.org"));
    town.publish().await;
    assert_eq!(client.get("/").await.0, 502);
    town.apply(Change::Policy(key("p"), None));
    town.publish().await;
    assert_eq!(client.get("/").await, (200, "open".into()));
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_secured_like_any_request() {
    let authority = Authority::new();
    let filter = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shop", "port": 80}}}]);
    let mut town = Town::with_rules(1, json!([{"filters": filter, "backendRefs": [{"name": "main", "port": 80}]}]));
    let main = Backend::start("main").await;
    let mut secure = Backend::start_tls("secure", authority.server("a.org", &[])).await;
    town.service("main");
    town.add("main", &main, "v1");
    town.add("shop", &secure, "v1");
    town.believe(&[&authority]);
    town.policy(&believing("1", "a.org"));
    town.publish().await;
    assert_eq!(town.client().await.get("/").await, (200, "main".into()));
    assert_eq!(secure.copy().await["serverName"], json!("a.org"));
    town.workers.stop().await;
}
