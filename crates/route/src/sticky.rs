//! A split by who asks: each unit (a user, a browser) has its place among all units by a hash, and the candidate gets those
//! whose place lies below its share.
//!
//! So a unit keeps its version whatever gateway it asks, units only ever join the candidate while its share rises and only ever
//! leave it while that falls, and the candidate gets its share of the units up to the chance of the hash. The places depend
//! on the candidate: other units come first in the next release.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sluice_model::duration;
use sluice_model::rollout;
use sluice_model::sticky::Unit;

use crate::facts::ObjectKey;
use crate::hash::{OFFSET, absorb, spread};
use crate::head::RequestHead;
use crate::split::Draws;

/// How long browsers keep a cookie when nobody says.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORIZATION: &str = "authorization";
const COOKIE: &str = "cookie";
const BEARER: &str = "bearer ";

#[derive(Debug)]
pub(crate) struct Sticky {
    unit: Unit,
    max_age: Duration,
    salt: u64,
}

/// A cookie for whoever came without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCookie<'t> {
    pub name: &'t str,
    pub value: String,
    pub max_age: Duration,
}

impl Sticky {
    /// `None` when its texts cannot be read, which the Rollout's owner is told elsewhere.
    pub(crate) fn compile(from: &rollout::Sticky, rollout: &ObjectKey, candidate: &str) -> Option<Self> {
        let unit = from.by.parse().ok()?;
        let max_age = from.max_age.as_deref().map_or(Some(MAX_AGE), |text| duration::parse(text).ok())?;
        let salt = [rollout.namespace.as_str(), &rollout.name, candidate];
        Some(Self { unit, max_age, salt: salt.into_iter().fold(OFFSET, |hash, word| absorb(absorb(hash, word), "/")) })
    }

    /// Where whoever asks stands among all, from 0 to the largest number; with the cookie that makes it so from now on. `None`
    /// when a request says nothing of whose it is.
    pub(crate) fn place(&self, head: &RequestHead<'_>, draws: &mut Draws) -> Option<(u64, Option<NewCookie<'_>>)> {
        if let Some(unit) = self.unit_of(head) {
            return Some((self.place_of(&unit), None));
        }
        let Unit::Cookie(name) = &self.unit else { return None };
        let value = draws.fresh_name();
        Some((self.place_of(&value), Some(NewCookie { name, value, max_age: self.max_age })))
    }

    fn unit_of(&self, head: &RequestHead<'_>) -> Option<String> {
        match &self.unit {
            Unit::Header(name) => head.header(name),
            Unit::Cookie(name) => head.cookie(name),
            Unit::Claim(name) => claim(&head.header(AUTHORIZATION)?, name),
        }
        .filter(|unit| !unit.is_empty())
    }

    fn place_of(&self, unit: &str) -> u64 {
        spread(absorb(self.salt, unit))
    }
}

impl RequestHead<'_> {
    /// The value of the first cookie of this name.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let mut found = None;
        self.headers.any(COOKIE, &mut |value| {
            let mut pairs = value.split(';').filter_map(|pair| pair.trim().split_once('='));
            found = pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            found.is_some()
        });
        found
    }
}

/// Of a JSON Web Token that nobody has verified: it decides on nothing but the version that answers.
fn claim(authorization: &str, name: &str) -> Option<String> {
    let scheme = authorization.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER))?;
    let payload = authorization[scheme.len()..].trim().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    match serde_json::from_slice::<Value>(&payload).ok()?.get_mut(name)?.take() {
        Value::String(text) => Some(text),
        number @ Value::Number(_) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a place lies within the first `share` of `whole`.
pub(crate) fn lies_within(place: u64, share: u32, whole: u32) -> bool {
    (u128::from(place) * u128::from(whole)) >> 64 < u128::from(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: u32 = 10_000;

    fn sticky(by: &str) -> Sticky {
        let from = rollout::Sticky { by: by.to_owned(), max_age: None };
        Sticky::compile(&from, &ObjectKey::new("shop", "web"), "7d9fc6b5").expect("a unit")
    }

    fn asks<'a>(headers: &'a Vec<(&'a str, String)>) -> RequestHead<'a> {
        RequestHead { method: "GET", host: "shop", path: "/", query: None, headers, received: 0 }
    }

    #[test]
    fn a_request_says_whose_it_is() {
        let token = |payload: &str| format!("bearer x.{}.z", URL_SAFE_NO_PAD.encode(payload));
        for (by, name, value, unit) in [
            ("header:X-User", "x-user", "ann".to_owned(), Some("ann")),
            ("header:x-user", "x-user", String::new(), None),
            ("header:x-user", "x-other", "ann".to_owned(), None),
            ("cookie:v", "cookie", "a=b; v=42; v=43".to_owned(), Some("42")),
            ("cookie:v", "cookie", "vv=1; a=v=2".to_owned(), None),
            ("claim:sub", "authorization", token(r#"{"sub":"ann"}"#), Some("ann")),
            ("claim:sub", "authorization", token(r#"{"sub":7}"#), Some("7")),
            ("claim:sub", "authorization", token(r#"{"sub":["ann"]}"#), None),
            ("claim:sub", "authorization", token("sub"), None),
            ("claim:sub", "authorization", "Basic YTpi".to_owned(), None),
            ("claim:sub", "authorization", "Bearer".to_owned(), None),
            ("claim:sub", "authorization", "Bearer é.é.é".to_owned(), None),
        ] {
            let headers = vec![(name, value)];
            assert_eq!(sticky(by).unit_of(&asks(&headers)).as_deref(), unit, "{by} of {headers:?}");
        }
    }

    #[test]
    fn who_has_no_cookie_gets_one_that_stands_for_the_same_place() {
        let sticky = sticky("cookie:v");
        let mut draws = Draws::new(0, 1);
        let (place, cookie) = sticky.place(&asks(&Vec::new()), &mut draws).expect("a place");
        let cookie = cookie.expect("a cookie");
        let headers = vec![("cookie", format!("v={}", cookie.value))];
        assert_eq!(sticky.place(&asks(&headers), &mut draws), Some((place, None)));
        let (_, another) = sticky.place(&asks(&Vec::new()), &mut draws).expect("a place");
        assert_ne!(another.expect("a cookie").value, cookie.value);
        assert_eq!(super::tests::sticky("header:x-user").place(&asks(&Vec::new()), &mut draws), None);
    }

    #[test]
    fn places_are_unbiased_to_a_thousandth() {
        const UNITS: u32 = 2_000_000;
        let sticky = sticky("header:x-user");
        let mut counts = [0u32; WHOLE as usize];
        for unit in 0..UNITS {
            let place = sticky.place_of(&format!("user-{unit}"));
            counts[((u128::from(place) * u128::from(WHOLE)) >> 64) as usize] += 1;
        }
        let mut below = 0;
        for (share, count) in (1u32..).zip(counts) {
            below += count;
            let (found, meant) = (f64::from(below) / f64::from(UNITS), f64::from(share) / f64::from(WHOLE));
            assert!((found - meant).abs() < 0.001, "{found} of the units for a share of {meant}");
        }
    }

    #[test]
    fn the_places_of_another_candidate_are_others() {
        let of = |candidate: &str| {
            let from = rollout::Sticky { by: "header:x".to_owned(), max_age: None };
            let sticky = Sticky::compile(&from, &ObjectKey::new("shop", "web"), candidate).expect("a unit");
            (0..1000).map(|unit| lies_within(sticky.place_of(&format!("user-{unit}")), 1000, WHOLE)).collect::<Vec<_>>()
        };
        let both = of("a").into_iter().zip(of("b")).filter(|(a, b)| *a && *b).count();
        assert!((1..40).contains(&both), "{both} of 1000 units would be the first in both, 10 by chance");
    }

    proptest! {
        #[test]
        fn whoever_is_in_stays_in_while_the_share_rises(unit in ".{1,40}", share in 0..=WHOLE, more in 0..=WHOLE) {
            let place = sticky("header:x-user").place_of(&unit);
            let larger = (share + more).min(WHOLE);
            prop_assert!(!lies_within(place, share, WHOLE) || lies_within(place, larger, WHOLE));
            prop_assert!(!lies_within(place, 0, WHOLE) && lies_within(place, WHOLE, WHOLE));
        }

        #[test]
        fn no_header_is_too_strange_to_be_read(value in ".{0,200}") {
            for by in ["cookie:v", "claim:sub"] {
                let headers = vec![("cookie", value.clone()), ("authorization", format!("Bearer {value}"))];
                let _either = sticky(by).unit_of(&asks(&headers));
            }
        }
    }
}
