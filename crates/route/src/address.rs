//! Which Gateway has which address: the one that it asks for, else one of its own while there are some, else the one that all share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sluice_model::gateway::GatewaySpec;

use crate::facts::{GatewayFacts, ObjectKey};
use crate::report::Address;

#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Of those who have none for themselves.
    shared: Option<IpAddr>,
    pool: Vec<IpAddr>,
    held: BTreeMap<ObjectKey, IpAddr>,
    refused: BTreeMap<ObjectKey, Refused>,
}

/// Why a Gateway does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing of that type is to be had.
    Unsupported(String),
    Unusable(String),
}

impl Addresses {
    pub(crate) fn new(shared: Option<IpAddr>, pool: Vec<IpAddr>) -> Self {
        Self { shared, pool, held: BTreeMap::new(), refused: BTreeMap::new() }
    }

    pub(crate) fn of(&self, gateway: &ObjectKey) -> Address {
        match self.held.get(gateway) {
            _ if self.refused.contains_key(gateway) => Address::Nowhere,
            Some(address) => Address::Own(*address),
            None => Address::Shared,
        }
    }

    pub(crate) fn refused(&self, gateway: &ObjectKey) -> Option<&Refused> {
        self.refused.get(gateway)
    }

    /// A Gateway keeps its address for as long as it exists and asks for no other, also from one run to the next: its status says
    /// which it had.
    pub(crate) fn assign<'w>(&mut self, gateways: &BTreeMap<&'w ObjectKey, &'w Arc<GatewayFacts>>) {
        self.refused.clear();
        let wishes: BTreeMap<&ObjectKey, _> = gateways.iter().map(|(key, facts)| (*key, wish(&facts.spec))).collect();
        self.held.retain(|gateway, held| match wishes.get(gateway) {
            Some(Ok(wish)) => wish.is_none_or(|wish| wish == *held),
            Some(Err(_)) | None => false,
        });
        let mut by_age: Vec<_> = gateways.iter().map(|(key, facts)| (*key, *facts)).collect();
        by_age.sort_by_key(|(key, facts)| (facts.created, *key));
        for (gateway, _) in &by_age {
            match &wishes[gateway] {
                Ok(Some(wish)) => self.grant(gateway, *wish),
                Ok(None) => {}
                Err(refused) => drop(self.refused.insert((*gateway).clone(), refused.clone())),
            }
        }
        let homeless: Vec<_> = gateways.iter().filter(|(gateway, _)| matches!(wishes[**gateway], Ok(None))).collect();
        for (gateway, facts) in &homeless {
            if let Some(had) = facts.address.filter(|had| self.is_free(had) && !self.held.contains_key(**gateway)) {
                self.held.insert((**gateway).clone(), had);
            }
        }
        for (gateway, _) in homeless {
            let free = self.pool.iter().find(|address| self.is_free(address)).copied();
            if let Some(address) = free.filter(|_| !self.held.contains_key(*gateway)) {
                self.held.insert((*gateway).clone(), address);
            }
        }
    }

    fn grant(&mut self, gateway: &ObjectKey, wish: IpAddr) {
        if self.shared == Some(wish) || self.held.contains_key(gateway) {
            return;
        }
        if self.is_free(&wish) {
            self.held.insert(gateway.clone(), wish);
            return;
        }
        let known = self.pool.contains(&wish);
        let why = if known { "another Gateway has it" } else { "it is none of this gateway's" };
        let refused = Refused::Unusable(format!("address `{wish}` cannot be used: {why}"));
        self.refused.insert(gateway.clone(), refused);
    }

    fn is_free(&self, address: &IpAddr) -> bool {
        self.pool.contains(address) && !self.held.values().any(|held| held == address)
    }
}

/// The address that a Gateway asks for, if it does.
fn wish(spec: &GatewaySpec) -> Result<Option<IpAddr>, Refused> {
    let kind = |wanted: &sluice_model::gateway::WantedAddress| wanted.kind.clone().unwrap_or("IPAddress".to_owned());
    if let Some(kind) = spec.addresses.iter().map(kind).find(|kind| kind != "IPAddress") {
        return Err(Refused::Unsupported(format!("address type `{kind}` is not supported, IPAddress is")));
    }
    let values = spec.addresses.iter().filter_map(|wanted| wanted.value.as_deref()).filter(|value| !value.is_empty());
    match values.collect::<Vec<_>>()[..] {
        [] => Ok(None),
        [value] => {
            let unusable = |_| Refused::Unusable(format!("address `{value}` is no IP address"));
            value.parse().map(Some).map_err(unusable)
        }
        ref several => Err(Refused::Unusable(format!(
            "`{}` are more addresses than the one that a Gateway has",
            several.join("`, `")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::gateway::WantedAddress;

    use super::*;

    /// Assigns to Gateways written as `name`, `name=address it had` or `name@TYPE/address it wants`; gives `name=address`, with `!`
    /// where it gets none.
    fn assigned(addresses: &mut Addresses, gateways: &str) -> String {
        let gateways: Vec<(ObjectKey, Arc<GatewayFacts>)> = gateways
            .split_whitespace()
            .map(|text| {
                let (text, wishes) = text.split_once('@').unwrap_or((text, ""));
                let (name, address) = text.split_once('=').unwrap_or((text, ""));
                let wish = |wish: &str| {
                    let (kind, value) = wish.split_once('/').expect("a type and a value");
                    let kind = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
                    WantedAddress { kind, value: Some(value.to_owned()) }
                };
                let addresses = wishes.split(',').filter(|wish| !wish.is_empty()).map(wish).collect();
                let spec = GatewaySpec { gateway_class_name: "sluice".into(), addresses, ..GatewaySpec::default() };
                let facts = GatewayFacts { generation: 1, created: 1, address: address.parse().ok(), spec };
                (ObjectKey::new("a", name), Arc::new(facts))
            })
            .collect();
        addresses.assign(&gateways.iter().map(|(key, facts)| (key, facts)).collect());
        let say = |(key, _): &(ObjectKey, _)| match addresses.of(key) {
            Address::Own(address) => format!("{}={address}", key.name),
            Address::Shared => key.name.clone(),
            Address::Nowhere => format!("{}!", key.name),
        };
        gateways.iter().map(say).collect::<Vec<_>>().join(" ")
    }

    fn pool(size: u8) -> Addresses {
        let shared = Some(IpAddr::from([198, 51, 100, 7]));
        Addresses::new(shared, (1..=size).map(|last| IpAddr::from([192, 0, 2, last])).collect())
    }

    #[test]
    fn a_gateway_gets_the_address_that_it_asks_for_or_none() {
        let mut addresses = pool(3);
        for (gateways, expected) in [
            ("a b@/192.0.2.1", "a=192.0.2.2 b=192.0.2.1"),
            ("a b@IPAddress/192.0.2.2", "a=192.0.2.2 b!"),
            ("a b@/192.0.2.3", "a=192.0.2.2 b=192.0.2.3"),
            ("a@/192.0.2.3 b@/192.0.2.3", "a! b=192.0.2.3"),
            ("a@/198.51.100.7 b@/198.51.100.7", "a b"),
            ("a@/203.0.113.1 b", "a! b=192.0.2.1"),
            ("a@/name b@Hostname/192.0.2.2", "a! b!"),
            ("a@/192.0.2.2,/203.0.113.1 b@x.org/y,/192.0.2.2", "a! b!"),
            ("a@/ b", "a=192.0.2.1 b=192.0.2.2"),
            ("b a@/192.0.2.1", "b=192.0.2.2 a=192.0.2.1"),
        ] {
            assert_eq!(assigned(&mut addresses, gateways), expected, "{gateways}");
        }
    }

    #[test]
    fn each_gateway_gets_an_address_and_keeps_it() {
        let mut addresses = pool(2);
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
        let mut addresses = pool(3);
        let found = assigned(&mut addresses, "a b=192.0.2.1 c=198.51.100.1 d=192.0.2.1");
        assert_eq!(found, "a=192.0.2.2 b=192.0.2.1 c=192.0.2.3 d");
    }

    #[test]
    fn without_a_pool_all_share() {
        assert_eq!(assigned(&mut Addresses::default(), "a b=192.0.2.1"), "a b");
    }
}
