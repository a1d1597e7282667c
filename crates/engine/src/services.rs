//! How the engine's services are reached, and what the engine itself serves under a service's name.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use kube::{Api, Client};
use sluice_model::fnv1a;
use sluice_services::{DnsListener, OwnBackend, Plan, Services, ServicesOptions, Wish};

use crate::options::{DnsWish, StartError};

const DNS_PORT: u16 = 53;
/// Where names are answered when the usual port is not to be had.
const OTHER_DNS_PORT: u16 = 1053;
const API_PORT: u16 = 443;
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(crate) fn plan(wish: Wish, data: &Path, ipv6: bool) -> Result<Plan, StartError> {
    Plan::choose(wish, fnv1a(data.as_os_str().as_encoded_bytes()), ipv6)
        .map_err(|source| StartError::Services { source })
}

/// A DNS that listens, or none.
pub(crate) async fn listen(wish: DnsWish, plan: &Plan) -> Result<Option<DnsListener>, StartError> {
    match wish {
        DnsWish::Off => Ok(None),
        DnsWish::At(address) => match DnsListener::bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => {
                Err(StartError::AddressInUse { address, flag: "--dns" })
            }
            Err(error) => Err(StartError::Listen { address, flag: "--dns", source: error.source }),
        },
        DnsWish::Auto => {
            for port in [DNS_PORT, OTHER_DNS_PORT] {
                match DnsListener::bind((plan.own_address, port).into()).await {
                    Ok(listener) => return Ok(Some(listener)),
                    Err(error) => tracing::debug!(%error, cause = %error.source, "No DNS there"),
                }
            }
            tracing::warn!(address = %plan.own_address, "No DNS: choose an address with `--dns ADDR`");
            Ok(None)
        }
    }
}

/// The address of the `kube-dns` service, which is made when it is missing.
pub(crate) async fn dns_service(client: &Client, plan: &Plan) -> Result<Option<Ipv4Addr>, StartError> {
    let api = Api::<Service>::namespaced(client.clone(), "kube-system");
    let service = match api.get_opt("kube-dns").await? {
        Some(service) => service,
        None => {
            let service = serde_json::json!({
                "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
                "spec": {"clusterIP": plan.network.dns(), "ports": [
                    {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
                ]},
            });
            let service: Service = serde_json::from_value(service).map_err(StartError::other)?;
            api.create(&PostParams::default(), &service).await?
        }
    };
    Ok(service.spec.and_then(|spec| spec.cluster_ip?.parse().ok()))
}

pub(crate) fn start(
    client: Client,
    plan: Plan,
    dns: Option<DnsListener>,
    api: SocketAddr,
    node_name: String,
) -> Services {
    let served = |namespace, service, port, address: Option<SocketAddr>| match address? {
        SocketAddr::V4(backend) => Some(OwnBackend { namespace, service, port, backend: reachable(backend) }),
        SocketAddr::V6(_) => None,
    };
    let names = served("kube-system", "kube-dns", DNS_PORT, dns.as_ref().map(DnsListener::address));
    let own = names.into_iter().chain(served("default", "kubernetes", API_PORT, Some(api))).collect();
    let resolv_conf = PathBuf::from(RESOLV_CONF);
    Services::start(client, ServicesOptions { plan, dns, resolv_conf, node_name, own })
}

/// Whoever listens everywhere listens on loopback, too.
fn reachable(address: SocketAddrV4) -> SocketAddrV4 {
    match address.ip().is_unspecified() {
        true => SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port()),
        false => address,
    }
}
