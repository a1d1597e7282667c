//! What every name of the cluster means: one immutable table, made anew when a service changes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::Endpoint;

use crate::doors::{Cluster, is_ready};

/// The cluster's zone. Names in the table are lower case and have no dot at the end.
pub(crate) const ZONE: &str = "cluster.local";
/// The version of the naming rules that are followed.
const VERSION: &str = "1.1.0";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServiceRecord {
    pub(crate) port: u16,
    pub(crate) target: String,
}

/// Everything that is known of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) services: Vec<ServiceRecord>,
    pub(crate) pointers: Vec<String>,
    pub(crate) text: Option<String>,
    /// The name is another one's: nothing else is known of it.
    pub(crate) alias: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    entries: HashMap<String, Entry>,
}

impl Names {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let mut names = Self::default();
        names.entry(&format!("svc.{ZONE}"));
        names.entry(&format!("pod.{ZONE}"));
        names.entry(&format!("dns-version.{ZONE}")).text = Some(VERSION.to_owned());
        for service in &cluster.services {
            names.add(cluster, service);
        }
        for entry in names.entries.values_mut() {
            entry.addresses.sort_unstable();
            entry.addresses.dedup();
            entry.services.sort_unstable();
            entry.services.dedup();
            entry.pointers.sort_unstable();
            entry.pointers.dedup();
        }
        names
    }

    /// `None`: there is no such name.
    pub(crate) fn get(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).cloned().or_else(|| pod(name))
    }

    /// Whether we alone answer for this name.
    pub(crate) fn is_ours(&self, name: &str) -> bool {
        is_below(name, ZONE) || self.entries.contains_key(name)
    }

    /// The entry of a name; those above it exist too.
    fn entry(&mut self, name: &str) -> &mut Entry {
        let mut above = name;
        while let Some((_, rest)) = above.split_once('.').filter(|(_, rest)| is_below(rest, ZONE)) {
            self.entries.entry(rest.to_owned()).or_default();
            above = rest;
        }
        self.entries.entry(name.to_owned()).or_default()
    }

    fn add(&mut self, cluster: &Cluster, service: &Service) {
        let (Some(spec), Some(name), Some(namespace)) =
            (&service.spec, &service.metadata.name, &service.metadata.namespace)
        else {
            return;
        };
        let own = format!("{name}.{namespace}.svc.{ZONE}");
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_lowercase();
            self.entry(&own).alias = Some(target).filter(|target| !target.is_empty());
            return;
        }
        self.entry(&own);
        if spec.cluster_ip.as_deref() == Some("None") {
            return self.add_headless(cluster, service, &own);
        }
        let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        for address in addresses.filter_map(|address| address.parse::<IpAddr>().ok()) {
            self.entry(&own).addresses.push(address);
            self.entry(&reverse(address)).pointers.push(own.clone());
        }
        for port in spec.ports.iter().flatten() {
            let number = u16::try_from(port.port).unwrap_or(0);
            let place = Place { port: port.name.as_deref(), protocol: port.protocol.as_deref(), service: &own };
            self.add_port(&place, ServiceRecord { port: number, target: own.clone() });
        }
    }

    /// Such a service is its endpoints, each of which has a name below it.
    fn add_headless(&mut self, cluster: &Cluster, service: &Service, own: &str) {
        let anyway = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        for slice in cluster.slices_of(service) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| anyway || is_ready(endpoint)) {
                for address in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
                    let target = format!("{}.{own}", label(endpoint, address));
                    self.entry(own).addresses.push(address);
                    self.entry(&target).addresses.push(address);
                    self.entry(&reverse(address)).pointers.push(target.clone());
                    for port in slice.ports.iter().flatten() {
                        let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) else { continue };
                        let place =
                            Place { port: port.name.as_deref(), protocol: port.protocol.as_deref(), service: own };
                        self.add_port(&place, ServiceRecord { port: number, target: target.clone() });
                    }
                }
            }
        }
    }

    fn add_port(&mut self, place: &Place<'_>, record: ServiceRecord) {
        let Some(port) = place.port.filter(|port| !port.is_empty()) else { return };
        let protocol = place.protocol.unwrap_or("TCP").to_lowercase();
        self.entry(&format!("_{port}._{protocol}.{}", place.service)).services.push(record);
    }
}

struct Place<'a> {
    port: Option<&'a str>,
    protocol: Option<&'a str>,
    service: &'a str,
}

fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn label(endpoint: &Endpoint, address: IpAddr) -> String {
    match endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
        Some(hostname) => hostname.to_lowercase(),
        None => address.to_string().replace(['.', ':'], "-"),
    }
}

/// The name that says in itself which address it means: `10-0-0-7.shop.pod.cluster.local`.
fn pod(name: &str) -> Option<Entry> {
    let (label, namespace) = name.strip_suffix(ZONE)?.strip_suffix(".pod.")?.split_once('.')?;
    if namespace.is_empty() || namespace.contains('.') {
        return None;
    }
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let address = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()?;
    Some(Entry { addresses: vec![address], ..Entry::default() })
}

/// The name under which an address is asked for its own.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits = v6.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            digits.collect::<String>() + "ip6.arpa"
        }
    }
}
