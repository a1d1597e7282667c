//! Which Gateway has which address: one of its own while there are some, else the one that all share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::facts::{GatewayFacts, ObjectKey};

#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pool: Vec<IpAddr>,
    held: BTreeMap<ObjectKey, IpAddr>,
}

impl Addresses {
    pub(crate) fn new(pool: Vec<IpAddr>) -> Self {
        Self { pool, held: BTreeMap::new() }
    }

    /// `None` stands for the gateway's own address.
    pub(crate) fn of(&self, gateway: &ObjectKey) -> Option<IpAddr> {
        self.held.get(gateway).copied()
    }

    /// A Gateway keeps its address for as long as it exists, also from one run to the next: its status says which it had.
    pub(crate) fn assign<'w>(&mut self, gateways: &BTreeMap<&'w ObjectKey, &'w Arc<GatewayFacts>>) {
        self.held.retain(|gateway, _| gateways.contains_key(gateway));
        let taken: BTreeSet<IpAddr> = self.held.values().copied().collect();
        let mut free: Vec<IpAddr> = self.pool.iter().copied().filter(|address| !taken.contains(address)).collect();
        let homeless: Vec<_> = gateways.iter().filter(|(gateway, _)| !self.held.contains_key(**gateway)).collect();
        for (gateway, facts) in &homeless {
            let had = facts.address.and_then(|address| free.iter().position(|free| *free == address));
            if let Some(at) = had {
                self.held.insert((**gateway).clone(), free.remove(at));
            }
        }
        let mut free = free.into_iter();
        for (gateway, _) in homeless {
            if !self.held.contains_key(*gateway)
                && let Some(address) = free.next()
            {
                self.held.insert((*gateway).clone(), address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::gateway::GatewaySpec;

    use super::*;

    /// Assigns to Gateways written as `name` or `name=address it had`; gives `name=address`.
    fn assigned(addresses: &mut Addresses, gateways: &str) -> String {
        let gateways: Vec<(ObjectKey, Arc<GatewayFacts>)> = gateways
            .split_whitespace()
            .map(|text| {
                let (name, address) = text.split_once('=').unwrap_or((text, ""));
                let spec = GatewaySpec { gateway_class_name: "sluice".into(), ..GatewaySpec::default() };
                let facts = GatewayFacts { generation: 1, created: 1, address: address.parse().ok(), spec };
                (ObjectKey::new("a", name), Arc::new(facts))
            })
            .collect();
        addresses.assign(&gateways.iter().map(|(key, facts)| (key, facts)).collect());
        let say = |(key, _): &(ObjectKey, _)| match addresses.of(key) {
            Some(address) => format!("{}={address}", key.name),
            None => key.name.clone(),
        };
        gateways.iter().map(say).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_gateway_gets_an_address_and_keeps_it() {
        let mut addresses = Addresses::new((1..=2).map(|last| IpAddr::from([192, 0, 2, last])).collect());
        for (gateways, expected) in [
            ("b", "b=192.0.2.1"),
            ("a b", "a=192.0.2.2 b=192.0.2.1"),
            ("a b c", "a=192.0.2.2 b=192.0.2.1 c"),
            ("a c", "a=192.0.2.2 c=192.0.2.1"),
        ] {
            assert_eq!(assigned(&mut addresses, gateways), expected, "{gateways}");
        }
    }

    #[test]
    fn an_address_of_the_run_before_is_kept() {
        let mut addresses = Addresses::new((1..=3).map(|last| IpAddr::from([192, 0, 2, last])).collect());
        let found = assigned(&mut addresses, "a b=192.0.2.1 c=198.51.100.1 d=192.0.2.1");
        assert_eq!(found, "a=192.0.2.2 b=192.0.2.1 c=192.0.2.3 d");
    }

    #[test]
    fn without_a_pool_all_share() {
        assert_eq!(assigned(&mut Addresses::default(), "a b=192.0.2.1"), "a b");
    }
}
