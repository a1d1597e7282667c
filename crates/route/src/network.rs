//! A range of addresses, as it is written: `10.0.0.0/8`, `::1`.

use std::net::IpAddr;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a range of them such as `10.0.0.0/8`")]
pub struct NetworkError(String);

impl Network {
    /// IPv4 in the clothes of IPv6 is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, length) = bits(self.address);
        let (theirs, other) = bits(address.to_canonical());
        let rest = u32::from(length - self.length);
        length == other && ours.checked_shr(rest).unwrap_or(0) == theirs.checked_shr(rest).unwrap_or(0)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (_, whole) = bits(address);
        let length = length.map_or(Ok(whole), |length| length.parse().map_err(|_| wrong()))?;
        if length > whole { Err(wrong()) } else { Ok(Self { address, length }) }
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ] {
            let network: Network = range.parse().expect("a range");
            assert_eq!(network.contains(address.parse().expect("an address")), holds, "{address} in {range}");
        }
    }

    #[test]
    fn what_is_no_range_is_named() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "::/129", "10.0.0.0/-1", "host"] {
            let said = text.parse::<Network>().expect_err(text).to_string();
            assert_eq!(said, format!("`{text}` is neither an address nor a range of them such as `10.0.0.0/8`"));
        }
    }
}
