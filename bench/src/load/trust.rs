//! The authority that clients trust, and the certificates that it signs.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::HOST;

pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    config: ClientConfig,
}

/// A certificate and its key.
pub(super) struct Leaf {
    pub(super) der: CertificateDer<'static>,
    chain: String,
    key: String,
}

impl Authority {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { issuer, config })
    }

    pub(super) fn leaf(&self) -> anyhow::Result<Leaf> {
        let key = KeyPair::generate()?;
        let made = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok(Leaf { der: made.der().clone(), chain: made.pem(), key: key.serialize_pem() })
    }

    /// For clients that speak this protocol.
    pub(super) fn connector(&self, protocol: &[u8]) -> TlsConnector {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// What a client is shown that has not been here before.
    pub(super) async fn shown(&self, address: SocketAddr) -> anyhow::Result<CertificateDer<'static>> {
        let mut config = self.config.clone();
        config.resumption = rustls::client::Resumption::disabled();
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST)?, stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        shown.cloned().ok_or_else(|| anyhow::anyhow!("the server shows no certificate"))
    }
}

impl Leaf {
    pub(super) fn secret(&self) -> Value {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "load"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": encode(&self.chain), "tls.key": encode(&self.key)}})
    }
}
