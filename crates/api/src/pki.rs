//! The server's own certificate authority, and the kubeconfig that trusts it.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::random;

/// Names that clients in and outside of pods call the server by.
const SERVER_NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
/// The address of the `kubernetes` service where nobody chose another network.
const SERVICE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));
const CA_YEARS: i32 = 10;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot use the certificates in TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot read the PEM of `{}`: {detail}", path.display())]
    Pem { path: PathBuf, detail: String },
}

/// Everything that TLS and the administrator need, as PEM.
pub struct Pki {
    pub ca: String,
    pub client_certificate: String,
    pub client_key: String,
    /// The administrator's bearer token.
    pub admin_token: String,
    server_certificate: String,
    server_key: String,
}

impl Pki {
    /// Reads the authority in `dir` or makes one (0700, files 0600). The server's certificate is made new each time, for the
    /// loopback addresses and these.
    pub fn open(dir: &Path, addresses: &[IpAddr]) -> Result<Self, PkiError> {
        make_private_dir(dir).map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        let (ca, ca_key) = authority(dir)?;
        let issuer = Issuer::from_ca_cert_pem(&ca, KeyPair::from_pem(&ca_key)?)?;
        let (server_certificate, server_key) = server_certificate(&issuer, addresses)?;
        let (client_certificate, client_key) =
            kept_pair(dir, "admin", || client_certificate(&issuer, "sluice:admin", "system:masters"))?;
        let token_path = dir.join("admin.token");
        let admin_token = match read(&token_path)? {
            Some(token) => token,
            None => {
                let token = random::token();
                write_private(&token_path, &token)?;
                token
            }
        };
        Ok(Self { ca, client_certificate, client_key, admin_token, server_certificate, server_key })
    }

    /// TLS for the server: client certificates of our authority are accepted, none is required.
    pub fn server_tls(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Pem { path: "ca.crt".into(), detail: error.to_string() })?;
        let key = PrivateKeyDer::from_pem_slice(self.server_key.as_bytes())
            .map_err(|error| PkiError::Pem { path: "server.key".into(), detail: error.to_string() })?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.server_certificate)?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// A kubeconfig for the administrator of the server at `url`.
    pub fn kubeconfig(&self, url: &str) -> String {
        let encode = |pem: &str| BASE64_STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: sluice\n  cluster:\n    server: {url}\n    \
             certificate-authority-data: {}\nusers:\n- name: sluice-admin\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\ncontexts:\n- name: sluice\n  context:\n    cluster: sluice\n    user: sluice-admin\n\
             current-context: sluice\n",
            encode(&self.ca),
            encode(&self.client_certificate),
            encode(&self.client_key),
        )
    }
}

/// Writes a kubeconfig that only its owner can read, as a whole or not at all.
pub fn write_kubeconfig(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension(format!("{}.tmp", random::suffix()));
    write_private(&temporary, text)?;
    fs::rename(&temporary, path).map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

fn authority(dir: &Path) -> Result<(String, String), PkiError> {
    kept_pair(dir, "ca", || {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sluice-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        set_lifetime(&mut params);
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
    })
}

fn server_certificate(issuer: &Issuer<'_, KeyPair>, addresses: &[IpAddr]) -> Result<(String, String), PkiError> {
    let mut params = CertificateParams::new(SERVER_NAMES.map(String::from))?;
    let loopback = [IpAddr::from([127, 0, 0, 1]), "::1".parse().expect("this is an address"), SERVICE_ADDRESS];
    for address in loopback.iter().chain(addresses.iter().filter(|address| !loopback.contains(address))) {
        params.subject_alt_names.push(SanType::IpAddress(*address));
    }
    params.distinguished_name.push(DnType::CommonName, "sluice-api");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    signed(params, issuer)
}

fn client_certificate(issuer: &Issuer<'_, KeyPair>, user: &str, group: &str) -> Result<(String, String), PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    signed(params, issuer)
}

fn signed(mut params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<(String, String), PkiError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_lifetime(&mut params);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// From yesterday, for clocks that are behind, for ten years.
fn set_lifetime(params: &mut CertificateParams) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let end = jiff::ToSpan::years(CA_YEARS);
    params.not_before = day(today.yesterday().unwrap_or(today));
    params.not_after = day(today.checked_add(end).unwrap_or(today));
}

/// The certificate and key called `name`, made and kept when they are not there.
fn kept_pair(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Result<(String, String), PkiError>,
) -> Result<(String, String), PkiError> {
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    if let (Some(certificate), Some(key)) = (read(&certificate)?, read(&key)?) {
        return Ok((certificate, key));
    }
    let made = make()?;
    write_private(&key, &made.1)?;
    write_private(&certificate, &made.0)?;
    Ok(made)
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io { path: path.to_owned(), source }),
    }
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|error| PkiError::Pem { path: "certificate".into(), detail: error.to_string() })
}
