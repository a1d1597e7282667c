//! Whose certificates are believed, of backends and of clients, and the handshake with backends.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use sluice_route::{AuthoritiesId, BackendTls, CertificateId, ClientTrust, PeerName, Protocol, TermsId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Credentials;

/// Every set of authorities that some table which is still in use may name.
pub(crate) type KnownAuthorities = BTreeMap<AuthoritiesId, Arc<Authorities>>;

/// Read once, when the first policy believes them.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    tracing::info!(usable, unusable, errors = found.errors.len(), "Authorities of the machine read");
    roots
});

/// Reads the authorities that the machine trusts, unless that was done before.
pub(crate) fn read_system() {
    LazyLock::force(&SYSTEM);
}

/// Who may sign certificates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a ConfigMap has no authorities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthoritiesError {
    #[error("it has no `ca.crt`")]
    Missing,
    #[error("`ca.crt` is no list of certificates in PEM")]
    Unreadable,
}

impl Authorities {
    /// From the `ca.crt` of a ConfigMap.
    pub(crate) fn read(text: Option<&str>) -> Result<Self, AuthoritiesError> {
        let text = text.ok_or(AuthoritiesError::Missing)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        let certificates = certificates.ok_or(AuthoritiesError::Unreadable)?;
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(certificates.iter().cloned());
        if unusable > 0 { Err(AuthoritiesError::Unreadable) } else { Ok(Self { certificates }) }
    }
}

/// What a connection has in common with others that it may stand in for: the terms, and what we have shown of ourselves.
pub(crate) type SecureKey = (TermsId, Option<CertificateId>);

/// How connections to a backend are secured.
pub(crate) struct Secure {
    pub(crate) key: SecureKey,
    server_name: ServerName<'static>,
    connector: TlsConnector,
}

impl Secure {
    /// `shown` is ours, for backends that ask for it. `None` when the terms or it name something unknown.
    pub(crate) fn new(
        tls: &BackendTls,
        protocol: Protocol,
        shown: Option<CertificateId>,
        credentials: &Credentials,
    ) -> Option<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier {
            roots: roots(&tls.terms.authorities, &credentials.authorities)?,
            names: tls.terms.names.clone(),
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match shown {
            Some(id) => config.with_client_cert_resolver(credentials.certificates.get(&id)?.shown()),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let server_name = ServerName::try_from(tls.terms.server_name.clone()).ok()?;
        Some(Self { key: (tls.id, shown), server_name, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        self.connector.connect(self.server_name.clone(), stream).await
    }
}

fn roots(authorities: &sluice_route::Authorities, known: &KnownAuthorities) -> Option<RootCertStore> {
    match authorities {
        sluice_route::Authorities::System => Some(SYSTEM.clone()),
        sluice_route::Authorities::Listed(ids) => listed(ids, known),
    }
}

fn listed(ids: &[AuthoritiesId], known: &KnownAuthorities) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for id in ids {
        roots.add_parsable_certificates(known.get(id)?.certificates.iter().cloned());
    }
    Some(roots)
}

/// Who is let in as a client. `None` when somebody unknown is to be believed.
pub(crate) fn client_verifier(
    clients: &ClientTrust,
    known: &KnownAuthorities,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let roots = Arc::new(listed(&clients.authorities, known)?);
    let strict = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().ok()?;
    if clients.is_optional { Some(Arc::new(Anybody(strict))) } else { Some(strict) }
}

/// Asks for a certificate, as the one within would, and lets in whoever comes with another one or none. Whoever shows one must have
/// its key.
#[derive(Debug)]
struct Anybody(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Believes certificates of these authorities that prove one of these names, whatever name was asked for in the handshake.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    names: Vec<PeerName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        if self.names.iter().any(|name| proves(leaf, &parsed, name)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn proves(leaf: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>, name: &PeerName) -> bool {
    match name {
        // A wildcard asks for this very wildcard.
        PeerName::Host(host) if host.starts_with('*') => {
            is_named(leaf, |named| matches!(named, GeneralName::DNSName(dns) if dns.eq_ignore_ascii_case(host)))
        }
        PeerName::Host(host) => {
            ServerName::try_from(host.as_str()).is_ok_and(|host| verify_server_name(parsed, &host).is_ok())
        }
        PeerName::Uri(uri) => is_named(leaf, |named| matches!(named, GeneralName::URI(named) if *named == uri)),
    }
}

fn is_named(leaf: &CertificateDer<'_>, is_meant: impl Fn(&GeneralName<'_>) -> bool) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(is_meant)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

    use super::*;

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    }

    fn name(text: &str) -> PeerName {
        if text.contains(':') { PeerName::Uri(text.into()) } else { PeerName::Host(text.into()) }
    }

    #[test]
    fn a_certificate_must_be_signed_by_an_authority_and_prove_one_of_the_names() {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let mut params = CertificateParams::new(vec!["a.org".into(), "*.b.org".into()]).expect("parameters");
        let uri = SanType::URI("spiffe://a.org/id".try_into().expect("ASCII"));
        params.subject_alt_names.push(uri);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &ours).expect("a certificate");
        let unknown: Result<(), _> = Err("UnknownIssuer");
        let unnamed = Err("NotValidForName");
        for (issuers, names, expected) in [
            (&[&ours][..], &["a.org"][..], Ok(())),
            (&[&theirs, &ours], &["a.org"], Ok(())),
            (&[&ours], &["x.b.org"], Ok(())),
            (&[&ours], &["*.b.org"], Ok(())),
            (&[&ours], &["spiffe://a.org/id"], Ok(())),
            (&[&ours], &["c.org", "spiffe://a.org/id"], Ok(())),
            (&[&theirs], &["a.org"], unknown),
            (&[], &["a.org"], unknown),
            (&[&ours], &["c.org"], unnamed),
            (&[&ours], &["*.a.org"], unnamed),
            (&[&ours], &["spiffe://a.org/other"], unnamed),
            (&[&ours], &[], unnamed),
        ] {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(issuers.iter().map(|issuer| issuer.der().clone()));
            let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
            let verifier = Verifier { roots, names: names.iter().map(|text| name(text)).collect(), algorithms };
            let asked = ServerName::try_from("whatever.org").expect("a name");
            let found = verifier.verify_server_cert(leaf.der(), &[], &asked, &[], UnixTime::now());
            let found = found.map(drop).map_err(|error| format!("{error:?}"));
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{names:?}"),
                Err(word) => assert!(found.as_ref().is_err_and(|error| error.contains(word)), "{names:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_config_map_without_authorities_says_why() {
        let pem = authority("ours").pem();
        let cut = pem.replace("-----END", "");
        let not_der = "-----BEGIN CERTIFICATE-----\nSGVsbG8=\n-----END CERTIFICATE-----\n";
        let (missing, unreadable) = (Some(AuthoritiesError::Missing), Some(AuthoritiesError::Unreadable));
        for (text, expected) in [
            (Some(pem.clone()), None),
            (Some(format!("{pem}{pem}")), None),
            (None, missing),
            (Some(String::new()), unreadable.clone()),
            (Some("Hello".into()), unreadable.clone()),
            (Some(cut), unreadable.clone()),
            (Some(not_der.into()), unreadable.clone()),
            (Some(format!("{pem}{not_der}")), unreadable),
        ] {
            assert_eq!(Authorities::read(text.as_deref()).err(), expected, "{text:?}");
        }
    }
}
