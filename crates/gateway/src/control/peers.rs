//! The gateways there are, by their Leases: all serve the same routes, one of them writes the statuses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;

/// The label of gateways' Leases.
pub(crate) const COMPONENT: (&str, &str) = ("sluice.dev/component", "gateway");
/// Of a Lease: where its gateway is reached.
pub(crate) const ADDRESS: &str = "sluice.dev/address";

/// What a gateway must know of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peers {
    /// Whether this one writes statuses. Nothing breaks while two do, or nobody does: they write the same, and with the revision
    /// that they saw.
    pub(crate) leads: bool,
    /// Where any of them is reached.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Peers {
    /// The gateway with the first name among those that are alive leads.
    pub(crate) fn among(leases: &[Lease], own: &str, now: Timestamp) -> Self {
        let is_own = |lease: &Lease| lease.metadata.name.as_deref() == Some(own);
        let alive: Vec<&Lease> = leases.iter().filter(|lease| is_own(lease) || is_alive(lease, now)).collect();
        let first = alive.iter().filter_map(|lease| lease.metadata.name.as_deref()).min();
        let addresses = alive.iter().filter_map(|lease| address(lease)).collect();
        Self { leads: first.is_none_or(|first| first == own), addresses }
    }
}

fn is_alive(lease: &Lease, now: Timestamp) -> bool {
    let until = || {
        let spec = lease.spec.as_ref()?;
        let seconds = SignedDuration::from_secs(spec.lease_duration_seconds?.into());
        spec.renew_time.as_ref()?.0.checked_add(seconds).ok()
    };
    until().is_some_and(|until| now < until)
}

fn address(lease: &Lease) -> Option<IpAddr> {
    lease.metadata.annotations.as_ref()?.get(ADDRESS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, renewed: i64, address: &str) -> Lease {
        let renewed = Timestamp::from_second(renewed).expect("a time");
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "annotations": {ADDRESS: address}},
            "spec": {"renewTime": renewed.to_string(), "leaseDurationSeconds": 40},
        }))
        .expect("a lease")
    }

    #[test]
    fn the_first_of_those_that_are_alive_leads_and_all_of_them_are_reached() {
        let leases = [lease("a", 900, "10.0.0.1"), lease("b", 990, "10.0.0.2"), lease("c", 980, "10.0.0.3")];
        let now = Timestamp::from_second(1000).expect("a time");
        let peers = |own| Peers::among(&leases, own, now);
        let reached: Vec<String> = peers("b").addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!((peers("b").leads, peers("c").leads), (true, false));
        assert_eq!(reached, ["10.0.0.2", "10.0.0.3"], "`a` was not heard of for longer than its Lease lasts");
        // A clock that is behind makes nobody doubt themselves.
        assert!(peers("a").leads);
    }

    #[test]
    fn who_is_alone_leads() {
        let now = Timestamp::from_second(1000).expect("a time");
        assert!(Peers::among(&[], "a", now).leads);
        assert!(Peers::among(&[lease("a", 990, "no address")], "a", now).addresses.is_empty());
    }
}
