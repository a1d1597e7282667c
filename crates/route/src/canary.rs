//! Canaries as Ingresses ask for them: a request that names itself goes one way or the other, all others by weight.

use crate::head::RequestHead;
use crate::matching::ValueTest;

/// What a request has to say to get the canary, or never to get it.
const ALWAYS: &str = "always";
const NEVER: &str = "never";
/// Where the two stand among the targets of their rule.
pub(crate) const MAIN: usize = 0;
pub(crate) const CANARY: usize = 1;
pub(crate) const WHOLE: u32 = 100;

/// A request that says this goes to that target. The first pin that holds counts.
#[derive(Debug)]
pub(crate) struct Pin {
    test: Test,
    pub(crate) target: usize,
}

#[derive(Debug)]
enum Test {
    /// In lower case.
    Header(String, ValueTest),
    Cookie(String, &'static str),
}

/// The header that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByHeader {
    pub(crate) name: String,
    pub(crate) value: HeaderValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderValue {
    AlwaysOrNever,
    Exact(String),
    /// An expression, found anywhere in the value; it was compiled once before.
    Pattern(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Canary {
    pub(crate) header: Option<ByHeader>,
    pub(crate) cookie: Option<String>,
    /// Of `total`.
    pub(crate) weight: u32,
    pub(crate) total: u32,
}

impl Default for Canary {
    fn default() -> Self {
        Self { header: None, cookie: None, weight: 0, total: WHOLE }
    }
}

impl Canary {
    /// Of the main service and of the canary.
    pub(crate) fn weights(&self) -> [u32; 2] {
        let weight = self.weight.min(self.total);
        [self.total - weight, weight]
    }

    /// The header goes before the cookie, both before the weight.
    pub(crate) fn pins(&self) -> Vec<Pin> {
        let mut pins = Vec::new();
        if let Some(ByHeader { name, value }) = &self.header {
            let mut pin = |test, target| pins.push(Pin { test: Test::Header(name.to_ascii_lowercase(), test), target });
            match value {
                HeaderValue::Exact(value) => pin(ValueTest::Exact(value.clone()), CANARY),
                HeaderValue::Pattern(pattern) => {
                    if let Ok(test) = ValueTest::containing(pattern) {
                        pin(test, CANARY);
                    }
                }
                HeaderValue::AlwaysOrNever => {
                    pin(ValueTest::Exact(ALWAYS.to_owned()), CANARY);
                    pin(ValueTest::Exact(NEVER.to_owned()), MAIN);
                }
            }
        }
        if let Some(cookie) = &self.cookie {
            let pin = |value, target| Pin { test: Test::Cookie(cookie.clone(), value), target };
            pins.extend([pin(ALWAYS, CANARY), pin(NEVER, MAIN)]);
        }
        pins
    }
}

impl Pin {
    pub(crate) fn holds(&self, head: &RequestHead<'_>) -> bool {
        match &self.test {
            Test::Header(name, test) => head.header(name).is_some_and(|value| test.holds(&value)),
            Test::Cookie(name, value) => head.cookie(name).is_some_and(|found| found == *value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pinned(canary: &Canary, headers: &[(&str, &str)]) -> Option<usize> {
        let headers = headers.to_vec();
        let head = RequestHead { method: "GET", host: "h", path: "/", query: None, headers: &headers, received: 0 };
        canary.pins().iter().find(|pin| pin.holds(&head)).map(|pin| pin.target)
    }

    fn by(value: HeaderValue) -> Canary {
        let header = Some(ByHeader { name: "X-Canary".into(), value });
        Canary { header, cookie: Some("beta".into()), ..Canary::default() }
    }

    #[test]
    fn the_header_goes_before_the_cookie_and_both_before_the_weight() {
        let plain = by(HeaderValue::AlwaysOrNever);
        let exact = by(HeaderValue::Exact("team-a".into()));
        let pattern = by(HeaderValue::Pattern("^eu-|-test$".into()));
        for (canary, header, cookie, expected) in [
            (&plain, "always", "never", Some(CANARY)),
            (&plain, "never", "always", Some(MAIN)),
            (&plain, "other", "always", Some(CANARY)),
            (&plain, "other", "never", Some(MAIN)),
            (&plain, "", "always", Some(CANARY)),
            (&plain, "Always", "other", None),
            (&exact, "team-a", "never", Some(CANARY)),
            (&exact, "always", "", None),
            (&exact, "never", "always", Some(CANARY)),
            (&pattern, "eu-west", "never", Some(CANARY)),
            (&pattern, "us-test", "", Some(CANARY)),
            (&pattern, "us-west", "never", Some(MAIN)),
            (&pattern, "always", "", None),
        ] {
            let cookie = format!("a=1; beta={cookie}");
            let found = pinned(canary, &[("x-canary", header), ("cookie", &cookie)]);
            assert_eq!(found, expected, "{header} and {cookie}");
        }
    }

    proptest! {
        #[test]
        fn weights_make_up_the_whole(weight in 0..2000u32, total in 1..1500u32) {
            let [main, canary] = Canary { weight, total, ..Canary::default() }.weights();
            prop_assert_eq!(main + canary, total);
            prop_assert_eq!(canary, weight.min(total));
        }

        #[test]
        fn who_says_nothing_is_never_pinned(header in "[a-z]{0,8}", cookie in "[a-z]{0,8}") {
            prop_assume!(!["always", "never"].contains(&header.as_str()) && !["always", "never"].contains(&cookie.as_str()));
            let cookie = format!("beta={cookie}");
            prop_assert_eq!(pinned(&by(HeaderValue::AlwaysOrNever), &[("x-canary", &header), ("cookie", &cookie)]), None);
        }
    }
}
