//! What stands before a rule, whatever its backends are: who may ask, and whether in the open.

use std::net::IpAddr;

use crate::filters::Redirect;
use crate::head::RequestHead;
use crate::network::Network;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    /// Where requests without TLS are sent instead.
    pub(crate) secure: Option<Redirect>,
    pub(crate) sources: Sources,
}

/// Addresses of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// `None`: all.
    pub(crate) allowed: Option<Vec<Network>>,
    pub(crate) denied: Vec<Network>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Objection<'t> {
    /// The client is to come back with TLS.
    Plain(&'t Redirect),
    /// Not from this address.
    Source,
}

impl Guard {
    pub(crate) fn objection(&self, head: &RequestHead<'_>) -> Option<Objection<'_>> {
        if let Some(redirect) = self.secure.as_ref().filter(|_| !head.headers.is_secure()) {
            return Some(Objection::Plain(redirect));
        }
        let admits = self.sources.is_unlimited() || head.headers.client().is_some_and(|it| self.sources.admits(it));
        (!admits).then_some(Objection::Source)
    }
}

impl Sources {
    fn is_unlimited(&self) -> bool {
        self.allowed.is_none() && self.denied.is_empty()
    }

    fn admits(&self, address: IpAddr) -> bool {
        let holds = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        !holds(&self.denied) && self.allowed.as_deref().is_none_or(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Headers;

    struct From(Option<&'static str>, bool);

    impl Headers for From {
        fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
            false
        }

        fn client(&self) -> Option<IpAddr> {
            self.0.map(|address| address.parse().expect("an address"))
        }

        fn is_secure(&self) -> bool {
            self.1
        }
    }

    fn objection(guard: &Guard, from: &From) -> &'static str {
        let head = RequestHead { method: "GET", host: "h", path: "/", query: None, headers: from, received: 0 };
        match guard.objection(&head) {
            None => "none",
            Some(Objection::Plain(_)) => "plain",
            Some(Objection::Source) => "source",
        }
    }

    fn networks(text: &str) -> Vec<Network> {
        text.split_whitespace().map(|network| network.parse().expect("a network")).collect()
    }

    #[test]
    fn sources_are_allowed_and_denied_by_address() {
        for (allowed, denied, address, expected) in [
            (None, "", Some("192.0.2.1"), "none"),
            (None, "", None, "none"),
            (Some("10.0.0.0/8 192.0.2.1"), "", Some("192.0.2.1"), "none"),
            (Some("10.0.0.0/8"), "", Some("192.0.2.1"), "source"),
            (Some("10.0.0.0/8"), "", None, "source"),
            (Some("10.0.0.0/8"), "10.1.0.0/16", Some("10.1.2.3"), "source"),
            (Some("10.0.0.0/8"), "10.1.0.0/16", Some("10.2.2.3"), "none"),
            (None, "fd00::/8", Some("fd12::1"), "source"),
            (None, "fd00::/8", Some("2001:db8::1"), "none"),
            (Some(""), "", Some("192.0.2.1"), "source"),
        ] {
            let sources = Sources { allowed: allowed.map(networks), denied: networks(denied) };
            let found = objection(&Guard { secure: None, sources }, &From(address, false));
            assert_eq!(found, expected, "{address:?} with {allowed:?} but {denied:?}");
        }
    }

    #[test]
    fn who_comes_in_the_open_is_sent_away_whoever_it_is() {
        let guard = Guard {
            secure: Some(Redirect::to_tls(443, 308)),
            sources: Sources { allowed: Some(networks("10.0.0.0/8")), denied: Vec::new() },
        };
        let cases = [
            ("10.0.0.1", false, "plain"),
            ("192.0.2.1", false, "plain"),
            ("10.0.0.1", true, "none"),
            ("192.0.2.1", true, "source"),
        ];
        for (address, secure, expected) in cases {
            assert_eq!(objection(&guard, &From(Some(address), secure)), expected, "{address} {secure}");
        }
    }
}
