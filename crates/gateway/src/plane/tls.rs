//! TLS of client connections: certificates as the workers use them, and the handshake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{fmt, io};

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::NoClientAuth;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, ParsedCertificate, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sluice_route::{CertificateId, ClientTrust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::trust::KnownAuthorities;
use super::{limits, trust};

/// Every certificate that some table which is still in use may name.
pub(crate) type Certificates = BTreeMap<CertificateId, Arc<Certificate>>;

/// A certificate with its key, ready for handshakes.
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    shown: Arc<SingleCertAndKey>,
    /// For clients that show none.
    config: Arc<ServerConfig>,
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Why two files are no certificate. Says nothing of what they hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("`tls.crt` is not a chain of certificates in PEM")]
    Chain,
    #[error("`tls.key` is not a private key of RSA, ECDSA or EdDSA in PEM")]
    Key,
    #[error("`tls.key` is not the key of the first certificate of `tls.crt`")]
    Mismatch,
    #[error("`tls.crt` and `tls.key` cannot be used: {0}")]
    Unusable(String),
}

impl Certificate {
    /// From what a Secret of type `kubernetes.io/tls` holds.
    pub(crate) fn read(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(CertificateError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Key)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified = CertifiedKey::from_der(chain.clone(), key, &provider).map_err(unfit)?;
        let shown = Arc::new(SingleCertAndKey::from(certified));
        let config = config(provider, shown.clone(), Arc::new(NoClientAuth)).map_err(unfit)?;
        Ok(Self { chain, shown, config: Arc::new(config) })
    }

    /// The same certificates, and thus the same key.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// Shown by a client.
    pub(crate) fn shown(&self) -> Arc<SingleCertAndKey> {
        self.shown.clone()
    }

    /// As it is served to clients that show none.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    fn is_for(&self, server_name: &str) -> bool {
        let parsed = self.chain.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let name = ServerName::try_from(server_name).ok();
        parsed.zip(name).is_some_and(|(parsed, name)| verify_server_name(&parsed, &name).is_ok())
    }
}

fn unfit(error: rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
        rustls::Error::InvalidCertificate(_) => CertificateError::Chain,
        // Of all steps only reading the key is told in free words.
        rustls::Error::General(_) => CertificateError::Key,
        other => CertificateError::Unusable(other.to_string()),
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    shown: Arc<SingleCertAndKey>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// How this certificate is served to clients that have to show theirs. `None` when somebody unknown is to be believed.
pub(crate) fn asking(
    certificate: &Certificate,
    clients: &ClientTrust,
    known: &KnownAuthorities,
) -> Option<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = trust::client_verifier(clients, known, &provider)?;
    config(provider, certificate.shown.clone(), verifier).ok()
}

/// Of a listener's certificates the first that is for this name, else the first.
pub(crate) fn choose(
    known: &Certificates,
    ids: &[CertificateId],
    server_name: Option<&str>,
) -> Option<(CertificateId, Arc<Certificate>)> {
    let mut certificates = ids.iter().filter_map(|id| Some((*id, known.get(id)?)));
    let first = certificates.next()?;
    let fitting = server_name.filter(|_| ids.len() > 1).and_then(|name| {
        let mut all = std::iter::once(first).chain(certificates);
        all.find(|(_, certificate)| certificate.is_for(name))
    });
    let (id, certificate) = fitting.unwrap_or(first);
    Some((id, certificate.clone()))
}

/// Takes the client's side of the connection up to its first request. `config_for` says how a client is served that asks for this
/// name, and whether it has
/// to show a certificate, if at all. With that name, and whether it did.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    room: &Semaphore,
    config_for: impl FnOnce(Option<&str>) -> Option<(Arc<ServerConfig>, bool)>,
) -> io::Result<(TlsStream<S>, Option<String>, bool)> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        // From here on a handshake costs memory and time.
        let _permit = room.acquire().await.map_err(io::Error::other)?;
        let server_name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        let Some((config, is_verified)) = config_for(server_name.as_deref()) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no listener has a certificate for this name"));
        };
        Ok((hello.into_stream(config).await?, server_name, is_verified))
    };
    timeout(limits::HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    struct Files {
        chain: String,
        key: String,
    }

    fn files(host: &str) -> Files {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a certificate");
        Files { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn read(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
        Certificate::read(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn files_that_are_no_certificate_say_why_and_nothing_else() {
        let (mine, other) = (files("a.org"), files("b.org"));
        let cut = mine.key.replace("-----END", "");
        let not_der = "-----BEGIN CERTIFICATE-----\nSGVsbG8=\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nSGVsbG8=\n-----END PRIVATE KEY-----\n";
        let both = format!("{}{}", mine.chain, mine.key);
        for (chain, key, expected) in [
            (mine.chain.as_str(), mine.key.as_str(), None),
            (&format!("{}{}", mine.chain, other.chain), &mine.key, None),
            (&both, &both, None),
            ("Hello world", "Hello world", Some(CertificateError::Chain)),
            ("", &mine.key, Some(CertificateError::Chain)),
            (&mine.key, &mine.key, Some(CertificateError::Chain)),
            (not_der, &mine.key, Some(CertificateError::Chain)),
            (&mine.chain, "", Some(CertificateError::Key)),
            (&mine.chain, &mine.chain, Some(CertificateError::Key)),
            (&mine.chain, &cut, Some(CertificateError::Key)),
            (&mine.chain, no_key, Some(CertificateError::Key)),
            (&mine.chain, &other.key, Some(CertificateError::Mismatch)),
        ] {
            assert_eq!(read(chain, key).err(), expected, "{chain} {key}");
        }
        let whole = read(&mine.chain, &mine.key).expect("a certificate");
        assert_eq!(format!("{whole:?}"), "Certificate { .. }");
    }

    #[test]
    fn of_several_certificates_the_one_for_the_name_is_shown() {
        let certificate = |host: &str| {
            let files = files(host);
            Arc::new(read(&files.chain, &files.key).expect("a certificate"))
        };
        let known: Certificates = [certificate("a.org"), certificate("*.b.org")]
            .into_iter()
            .zip([1, 2])
            .map(|(c, id)| (CertificateId(id), c))
            .collect();
        let ids = [1, 2].map(CertificateId);
        for (name, expected) in [(Some("a.org"), 1), (Some("x.b.org"), 2), (Some("c.org"), 1), (None, 1)] {
            let (chosen, _) = choose(&known, &ids, name).expect("one of them");
            assert_eq!(chosen, CertificateId(expected), "{name:?}");
        }
        assert!(choose(&known, &[CertificateId(3)], None).is_none());
    }

    fn nobody(_: Option<&str>) -> Option<(Arc<ServerConfig>, bool)> {
        None
    }

    /// The first message of a client that asks for this host.
    fn hello(host: &str) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_let_go() {
        let files = files("a.org");
        let served = read(&files.chain, &files.key).expect("a certificate").config;
        let hello = hello("A.org");
        for (said, places) in [(0, 1), (5, 1), (hello.len(), 1), (hello.len(), 0)] {
            let (mut client, server) = duplex(64 * 1024);
            client.write_all(&hello[..said]).await.expect("written");
            let room = Semaphore::new(places);
            let before = tokio::time::Instant::now();
            let ended = handshake(server, &room, |name| {
                assert_eq!(name, Some("a.org"));
                Some((served.clone(), false))
            });
            assert_eq!(ended.await.expect_err("no client").kind(), io::ErrorKind::TimedOut, "after {said} bytes");
            assert_eq!(before.elapsed(), limits::HANDSHAKE);
            assert_eq!(room.available_permits(), places);
        }
    }

    #[tokio::test]
    async fn what_is_not_tls_or_for_nobody_is_refused_at_once() {
        for (said, expected) in [
            (&b"GET / HTTP/1.1\r\nhost: a.org\r\n\r\n"[..], io::ErrorKind::InvalidData),
            (&hello("b.org"), io::ErrorKind::NotFound),
        ] {
            let (mut client, server) = duplex(64 * 1024);
            client.write_all(said).await.expect("written");
            let refused = handshake(server, &Semaphore::new(1), nobody).await;
            assert_eq!(refused.expect_err("no client").kind(), expected);
        }
    }
}
