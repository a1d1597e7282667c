//! How many connections each client has, so that none takes all that there are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// Counts connections by where they come from.
#[derive(Clone, Default)]
pub(crate) struct Sources(Rc<RefCell<HashMap<IpAddr, u32>>>);

/// One connection's place among those of its source.
pub(crate) struct Seat {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// `None`: the source has `limit` already.
    pub(crate) fn seat(&self, address: IpAddr, limit: u32) -> Option<Seat> {
        let source = source(address);
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(source).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Seat { sources: self.clone(), source })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.sources.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// Of IPv6 the network: whoever has one address there has all of its /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_their_part() {
        let sources = Sources::default();
        let sit = |address: &str| sources.seat(address.parse().expect("an address"), 2);
        let first = sit("10.0.0.1").expect("the first");
        let _second = sit("::ffff:10.0.0.1").expect("the same source in other words");
        assert!(sit("10.0.0.1").is_none());
        assert!(sit("10.0.0.2").is_some(), "others do not notice");
        drop(first);
        assert!(sit("10.0.0.1").is_some(), "a place is free again");
        let _six = ["2001:db8::1", "2001:db8::2"].map(|address| sit(address).expect("two of a network"));
        assert!(sit("2001:db8::3").is_none() && sit("2001:db8:0:1::3").is_some());
    }

    #[test]
    fn who_left_is_forgotten() {
        let sources = Sources::default();
        drop(sources.seat(IpAddr::from([10, 0, 0, 1]), 1));
        assert!(sources.0.borrow().is_empty());
    }
}
