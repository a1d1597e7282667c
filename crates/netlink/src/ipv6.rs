//! Whether this machine lets us use IPv6 as we use IPv4.

use std::fs::{self, OpenOptions};
use std::sync::OnceLock;

use crate::family::Family;
use crate::nft::{self, Base, Chain, Hook, Step, Table};
use crate::socket::Socket;

const OF_ALL_LINKS: &str = "/proc/sys/net/ipv6/conf/all";

/// Why there is IPv4 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoIpv6 {
    #[error("the kernel has no IPv6")]
    Kernel,
    #[error("IPv6 is switched off by net.ipv6.conf.*.disable_ipv6")]
    Disabled,
    #[error("the packet filter rewrites no IPv6 addresses")]
    PacketFilter,
    #[error("net.ipv6.conf.all.forwarding is off and cannot be switched on")]
    Forwarding,
}

/// Asks the kernel each time: the answer changes with its settings.
pub fn ipv6() -> Result<(), NoIpv6> {
    if !has_links() {
        return Err(NoIpv6::Kernel);
    }
    let is_off = |links| setting(&format!("/proc/sys/net/ipv6/conf/{links}/disable_ipv6")) != Some(0);
    if ["all", "default"].into_iter().any(is_off) {
        return Err(NoIpv6::Disabled);
    }
    if !families().contains(&Family::V6) {
        return Err(NoIpv6::PacketFilter);
    }
    let forwarding = format!("{OF_ALL_LINKS}/forwarding");
    if setting(&forwarding) != Some(1) && OpenOptions::new().write(true).open(&forwarding).is_err() {
        return Err(NoIpv6::Forwarding);
    }
    Ok(())
}

/// The families whose packets the filter rewrites for us.
pub fn families() -> &'static [Family] {
    static KNOWN: OnceLock<&'static [Family]> = OnceLock::new();
    KNOWN.get_or_init(|| if has_links() && rewrites() { &[Family::V4, Family::V6] } else { &[Family::V4] })
}

fn has_links() -> bool {
    fs::exists("/proc/net/if_inet6").unwrap_or(false)
}

fn setting(path: &str) -> Option<u8> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A table that is made and taken away in one transaction, so nobody ever sees it.
fn rewrites() -> bool {
    let base = Base { kind: "nat", hook: Hook::Postrouting, priority: 100 };
    let rules = vec![vec![Step::DestinationKind(0), Step::Equal(0, nft::LOCAL.to_ne_bytes().into()), Step::Masquerade]];
    let chains = vec![Chain { name: "try".to_owned(), base: Some(base), rules }];
    let table = Table { family: Family::V6, chains, maps: Vec::new() };
    Socket::netfilter().and_then(|mut socket| socket.ask_all(nft::trial("sluice-try", &table))).is_ok()
}
