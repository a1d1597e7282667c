//! Which hosts serve a registry: mirrors, the registry itself, and how they are spoken to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use http::Uri;
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

impl Hosts {
    /// Whether somebody who was reached at one host may send us to another: nobody from outside to what only we reach.
    pub(super) fn may_lead(&self, from: &str, to: &str) -> bool {
        !is_inner(to) || is_inner(from) || self.insecure.iter().any(|host| host == to)
    }
}

/// Where a descriptor says that a layer lies, if we go there: by TLS, and not to what only this machine reaches. A registry of
/// this machine may name others of it.
pub(super) fn foreign(url: &str, registry: &Endpoint) -> Result<(Endpoint, String), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is no address")?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err("it is no address") };
    let (local, inner) = (is_loopback(&registry.authority), is_inner(authority.as_str()));
    let scheme = match scheme {
        "https" => "https",
        "http" if local && inner => "http",
        "http" => return Err("it is not `https`"),
        _ => return Err("it is neither `https` nor `http`"),
    };
    if authority.as_str().contains('@') {
        return Err("it names a user");
    }
    if inner && !local {
        return Err("it is an address of this machine or its link");
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    // Whatever is silent there, nobody else has the layer; so it is asked as a registry is.
    Ok((Endpoint { scheme, authority: authority.to_string(), is_mirror: false }, path))
}

/// Whether a host is named by an address that only this machine, or its nearest neighbours, reach: where cloud machines keep
/// their secrets, and daemons trust whoever asks.
fn is_inner(authority: &str) -> bool {
    let host = host_of(authority);
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical(),
        Err(_) => return host == "localhost" || host.ends_with(".localhost"),
    };
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

/// Whether a host is this machine: there plain HTTP loses nothing.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host_of(authority: &str) -> &str {
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_from_elsewhere_come_by_tls_and_not_from_this_machine() {
        let check = |registry: &str, url: &str, expected: &str| {
            let registry = Endpoint { scheme: "https", authority: registry.to_owned(), is_mirror: false };
            let shown = match foreign(url, &registry) {
                Ok((Endpoint { scheme, authority, .. }, path)) => format!("{scheme}://{authority}{path}"),
                Err(why) => why.to_owned(),
            };
            assert_eq!(shown, expected, "{url}");
        };
        check("ghcr.io", "https://go.test/fwlink?id=1", "https://go.test/fwlink?id=1");
        check("ghcr.io", "https://10.0.0.1/layer", "https://10.0.0.1/layer");
        check("ghcr.io", "http://go.test/layer", "it is not `https`");
        check("ghcr.io", "ftp://go.test/layer", "it is neither `https` nor `http`");
        check("ghcr.io", "file:///etc/shadow", "it is no address");
        check("ghcr.io", "/etc/shadow", "it is no address");
        check("ghcr.io", "https://user@go.test/", "it names a user");
        const INNER: &str = "it is an address of this machine or its link";
        for host in
            ["169.254.169.254", "127.0.0.1:2375", "localhost", "[::1]:80", "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]"]
        {
            check("ghcr.io", &format!("https://{host}/x"), INNER);
            check("localhost:5000", &format!("http://{host}/x"), &format!("http://{host}/x"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_makes_it_panic(url in "[a-z]{0,6}:?/{0,3}[a-z0-9.:@%\\[\\]-]{0,20}/?[ -~]{0,10}", any in ".{0,60}") {
            let registry = Endpoint { scheme: "https", authority: "ghcr.io".to_owned(), is_mirror: false };
            for url in [url, any] {
                if let Ok((endpoint, _)) = foreign(&url, &registry) {
                    proptest::prop_assert!(endpoint.scheme == "https" && !is_inner(&endpoint.authority), "{url}");
                }
                Hosts::default().may_lead(&url, "127.0.0.1");
                let _refused = serde_json::from_str::<Hosts>(&url);
            }
        }
    }

    #[test]
    fn nobody_from_outside_leads_to_this_machine() {
        let hosts = Hosts { insecure: vec!["169.254.0.9:5000".to_owned()], ..Hosts::default() };
        let check =
            |from: &str, to: &str, expected: bool| assert_eq!(hosts.may_lead(from, to), expected, "{from} {to}");
        check("ghcr.io", "cdn.test", true);
        check("registry.lan:5000", "10.0.0.7:9000", true);
        check("ghcr.io", "127.0.0.1:80", false);
        check("ghcr.io", "169.254.169.254", false);
        check("ghcr.io", "user@169.254.169.254", false);
        check("ghcr.io", "169.254.0.9:5000", true);
        check("localhost:5000", "127.0.0.1:9000", true);
    }

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
