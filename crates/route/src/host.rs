//! Host names of listeners and routes: exact, `*.suffix`, or any; which is narrower, and what two of them share.

use std::collections::HashMap;
use std::fmt;

/// Ordered by how specific it is: an exact name before a wildcard, a longer one before a shorter one, any host last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Exact(String),
    /// Holds what follows the `*`, with its dot: `.example.com`. Matches one or more labels before it.
    Wildcard(String),
    Any,
}

impl Host {
    /// The `hostname` of a listener or route; empty or absent means any.
    pub fn parse(hostname: Option<&str>) -> Self {
        let name = hostname.unwrap_or_default().to_ascii_lowercase();
        match name.strip_prefix('*') {
            _ if name.is_empty() => Self::Any,
            Some(suffix) if suffix.starts_with('.') => Self::Wildcard(suffix.to_owned()),
            _ => Self::Exact(name),
        }
    }

    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }

    /// The hosts that both match, if there are any.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, both) | (both, Self::Any) => Some(both.clone()),
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => {
                pattern.matches(name).then(|| Self::Exact(name.clone()))
            }
            (Self::Wildcard(a), Self::Wildcard(b)) => {
                let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                long.ends_with(short.as_str()).then(|| Self::Wildcard(long.clone()))
            }
        }
    }

    /// Whether a host that both match belongs to `self`.
    pub fn narrower_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (2, name.len()),
            Self::Wildcard(suffix) => (1, suffix.len()),
            Self::Any => (0, 0),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Something for each host, found by the name that a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct ByHost<T> {
    exact: HashMap<String, T>,
    /// By what follows the `*`, with its dot.
    wildcard: HashMap<String, T>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: None }
    }
}

impl<T> ByHost<T> {
    /// Everything for this name, from the narrowest host to the widest.
    pub(crate) fn matching<'t>(&'t self, name: &str) -> impl Iterator<Item = &'t T> {
        let suffixes = name.match_indices('.').map(|(at, _)| &name[at..]);
        let suffixes = suffixes.take(if self.wildcard.is_empty() { 0 } else { usize::MAX });
        let wildcard = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(name).into_iter().chain(wildcard).chain(&self.any)
    }

    pub(crate) fn get(&self, host: &Host) -> Option<&T> {
        match host {
            Host::Exact(name) => self.exact.get(name),
            Host::Wildcard(suffix) => self.wildcard.get(suffix),
            Host::Any => self.any.as_ref(),
        }
    }

    pub(crate) fn insert(&mut self, host: Host, value: T) {
        match host {
            Host::Exact(name) => drop(self.exact.insert(name, value)),
            Host::Wildcard(suffix) => drop(self.wildcard.insert(suffix, value)),
            Host::Any => self.any = Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_needs_at_least_one_label() {
        let wildcard = Host::parse(Some("*.Example.com"));
        for (host, expected) in
            [("a.example.com", true), ("a.b.example.com", true), ("example.com", false), ("aexample.com", false)]
        {
            assert_eq!(wildcard.matches(host), expected, "{host}");
        }
    }

    #[test]
    fn listener_and_route_share_the_narrower_name() {
        for (listener, route, shared) in [
            ("", "shop.example.com", "shop.example.com"),
            ("*.example.com", "", "*.example.com"),
            ("*.example.com", "shop.example.com", "shop.example.com"),
            ("shop.example.com", "*.example.com", "shop.example.com"),
            ("*.example.com", "*.b.example.com", "*.b.example.com"),
            ("*.b.example.com", "*.example.com", "*.b.example.com"),
            ("shop.example.com", "shop.example.com", "shop.example.com"),
            ("*.example.com", "example.com", "none"),
            ("*.example.com", "*.example.org", "none"),
            ("a.example.com", "b.example.com", "none"),
            ("", "", "*"),
        ] {
            let found = Host::parse(Some(listener)).intersection(&Host::parse(Some(route)));
            assert_eq!(found.map_or("none".to_owned(), |host| host.to_string()), shared, "{listener} and {route}");
        }
    }

    #[test]
    fn an_exact_name_is_narrower_than_any_wildcard() {
        let [exact, long, short] = ["a.b", "*.long.example.com", "*.com"].map(|name| Host::parse(Some(name)));
        assert!(exact.narrower_than(&long) && long.narrower_than(&short) && short.narrower_than(&Host::Any));
        assert!(!long.narrower_than(&long));
    }
}
