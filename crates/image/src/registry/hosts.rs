//! Which hosts serve a registry: mirrors, the registry itself, and how they are spoken to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

/// Who really answers for `docker.io`.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The file `registries.json` beside the images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hosts {
    /// By registry, the addresses to try first, such as `https://mirror.example`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts that are spoken to without TLS, besides those on this machine.
    pub insecure: Vec<String>,
    /// PEM files with further authorities to trust.
    pub certificates: Vec<String>,
}

/// A host to speak to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    pub(super) is_mirror: bool,
}

impl Hosts {
    /// Reads the file where there is one.
    pub fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// The hosts to ask for images of a registry, in order.
    pub(super) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mirrors = self.mirrors.get(registry).into_iter().flatten().map(|mirror| {
            let (scheme, authority) = match mirror.split_once("://") {
                Some(("http", rest)) => ("http", rest),
                Some((_, rest)) => ("https", rest),
                None => (self.scheme(mirror), mirror.as_str()),
            };
            Endpoint { scheme, authority: authority.trim_end_matches('/').to_owned(), is_mirror: true }
        });
        let authority = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
        let own = Endpoint { scheme: self.scheme(registry), authority: authority.to_owned(), is_mirror: false };
        mirrors.chain([own]).collect()
    }

    fn scheme(&self, registry: &str) -> &'static str {
        let insecure = self.insecure.iter().any(|host| host == registry) || is_loopback(registry);
        if insecure { "http" } else { "https" }
    }

    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let files = self.certificates.iter().filter_map(|path| CertificateDer::pem_file_iter(path).ok());
        files.flatten().flatten().collect()
    }
}

/// Whether a host is this machine: there plain HTTP loses nothing.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_loopback_speaks_plainly() {
        let hosts: Hosts = serde_json::from_str(
            r#"{"mirrors": {"docker.io": ["http://mirror.test:5000/", "cache.test"]}, "insecure": ["plain.test:80"]}"#,
        )
        .expect("a file");
        let show = |registry: &str| {
            let one = |e: &Endpoint| format!("{}://{}", e.scheme, e.authority);
            hosts.endpoints(registry).iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show("docker.io"), "http://mirror.test:5000 https://cache.test https://registry-1.docker.io");
        assert_eq!(show("ghcr.io"), "https://ghcr.io");
        assert_eq!(show("localhost:5000"), "http://localhost:5000");
        assert_eq!(show("127.0.0.2"), "http://127.0.0.2");
        assert_eq!(show("[::1]:5000"), "http://[::1]:5000");
        assert_eq!(show("plain.test:80"), "http://plain.test:80");
        assert_eq!(show("localhost.evil.test"), "https://localhost.evil.test");
    }
}
