//! IP addresses and CIDRs, as leniently as the real server reads the older fields: leading zeros are fine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check::Faults;
use super::cursor::At;

pub(crate) const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address whose parts may have leading zeros.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let octets: Vec<u8> = text.split('.').map(|part| decimal(part, 255)).collect::<Option<_>>()?;
        <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
    })
}

fn decimal(text: &str, most: u32) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let number: u32 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    (number <= most).then_some(number as u8)
}

/// An address and the length of its prefix.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = parse(address)?;
    let length = decimal(length, if address.is_ipv4() { 32 } else { 128 })?;
    Some((address, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) }
}

/// The first address of a block.
pub(crate) fn network(address: IpAddr, length: u8) -> IpAddr {
    let kept = bits(address) & mask(length);
    if address.is_ipv4() { IpAddr::V4(Ipv4Addr::from((kept >> 96) as u32)) } else { IpAddr::V6(Ipv6Addr::from(kept)) }
}

/// Whether the block `inner` lies in `outer` and is smaller.
pub(crate) fn is_strict_subset(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    inner.0.is_ipv4() == outer.0.is_ipv4()
        && inner.1 > outer.1
        && bits(inner.0) & mask(outer.1) == bits(outer.0) & mask(outer.1)
}

/// Must be an address; answers it.
pub(crate) fn address(f: &mut Faults, at: &At<'_>) -> Option<IpAddr> {
    let parsed = parse(at.str());
    if parsed.is_none() {
        f.invalid_value(at, at.str(), ADDRESS);
    }
    parsed
}

pub(crate) fn cidr(f: &mut Faults, at: &At<'_>) -> Option<(IpAddr, u8)> {
    let parsed = parse_cidr(at.str());
    if parsed.is_none() {
        f.invalid_value(at, at.str(), CIDR);
    }
    parsed
}

/// An address that traffic can be sent to. Differs from the real server on purpose: 127.64.0.0/10 is where process pods
/// live.
pub(crate) fn endpoint(f: &mut Faults, at: &At<'_>) {
    let Some(address) = parse(at.str()) else { return f.invalid_value(at, at.str(), "must be a valid IP address") };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        f.invalid_value(at, at.str(), format!("may not be unspecified ({})", at.str()));
    }
    if address.is_loopback() && !is_process_pod(address) {
        f.invalid_value(at, at.str(), "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        f.invalid_value(at, at.str(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if local_multicast {
        f.invalid_value(at, at.str(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn is_process_pod(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 127 && v4.octets()[1] & 0xc0 == 0x40)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults_of(address: &str) -> Vec<String> {
        let value = json!(address);
        let mut faults = Faults::default();
        endpoint(&mut faults, &At::root(&value));
        faults.into_list().iter().map(|fault| fault.detail.clone()).collect()
    }

    #[test]
    fn process_pods_may_be_endpoints_other_loopback_addresses_not() {
        for address in ["10.0.0.1", "127.64.0.1", "127.127.255.254", "2001:db8::1"] {
            assert_eq!(faults_of(address), Vec::<String>::new(), "{address}");
        }
        for address in ["127.0.0.1", "127.63.255.255", "127.128.0.0", "::1"] {
            assert_eq!(faults_of(address), ["may not be in the loopback range (127.0.0.0/8, ::1/128)"], "{address}");
        }
        assert_eq!(faults_of("0.0.0.0"), ["may not be unspecified (0.0.0.0)"]);
        assert_eq!(faults_of("169.254.1.1"), ["may not be in the link-local range (169.254.0.0/16, fe80::/10)"]);
        assert_eq!(faults_of("1.2.3"), ["must be a valid IP address"]);
    }

    #[test]
    fn older_fields_take_leading_zeros() {
        assert_eq!(parse("010.1.2.03"), "10.1.2.3".parse().ok());
        assert_eq!(parse("256.1.1.1"), None);
        assert_eq!(
            parse_cidr("010.0.0.0/08").map(|(ip, length)| (ip.to_string(), length)),
            Some(("10.0.0.0".into(), 8))
        );
        assert_eq!(parse_cidr("10.0.0.0/33"), None);
        let block = |text: &str| parse_cidr(text).expect("a block");
        assert!(is_strict_subset(block("10.1.0.0/16"), block("10.0.0.0/8")));
        assert!(!is_strict_subset(block("10.0.0.0/8"), block("10.0.0.0/8")));
        assert!(!is_strict_subset(block("fd00::/16"), block("10.0.0.0/8")));
    }
}
