//! Sessions: whoever a pod has answered once comes back to it, as long as a request might be sent there at all.
//!
//! The client carries a token that says which pod and since when. It is no secret and no promise: a pod that is gone, or whose
//! share is nothing by now, is replaced by another one.

use std::time::Duration;

use sluice_model::gateway::SessionPersistence;

use crate::backend::Endpoint;
use crate::duration;
use crate::facts::ObjectKey;
use crate::hash::{OFFSET, absorb, spread};
use crate::head::RequestHead;

const COOKIE: &str = "Cookie";
const PERMANENT: &str = "Permanent";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    name: String,
    carrier: Carrier,
    /// Where a cookie is sent to.
    path: String,
    terms: CookieTerms,
    /// A session ends so long after it began, however busy it is.
    lasts: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// `permanent`: kept by browsers when they are closed.
    Cookie {
        permanent: bool,
    },
    Header,
}

/// What a browser is told about a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieTerms {
    pub same_site: &'static str,
    /// `None`: where the client came by TLS.
    pub secure: Option<bool>,
    pub domain: Option<String>,
}

impl Default for CookieTerms {
    fn default() -> Self {
        Self { same_site: "Lax", secure: None, domain: None }
    }
}

/// Which pod a client belongs to, since when (in seconds of Unix time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pod: u64,
    since: u64,
}

/// What tells the client of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice<'s> {
    Cookie { name: &'s str, value: String, max_age: Option<Duration>, path: &'s str, terms: &'s CookieTerms },
    Header { name: &'s str, value: String },
}

impl Session {
    /// `None` where a rule asks for none. A name is made up where there is none: the same in every gateway.
    pub(crate) fn compile(from: &SessionPersistence, route: &ObjectKey, rule: usize) -> Self {
        let made_up = || {
            let words = [route.namespace.as_str(), "/", &route.name, "/", &rule.to_string()];
            format!("sluice-session-{:08x}", spread(words.into_iter().fold(OFFSET, absorb)) >> 32)
        };
        let name = from.session_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(made_up);
        let lasts = from.absolute_timeout.as_deref().and_then(duration::parse).filter(|lasts| !lasts.is_zero());
        let lifetime = from.cookie_config.as_ref().and_then(|config| config.lifetime_type.as_deref());
        let carrier = match from.kind.as_deref().unwrap_or(COOKIE) {
            COOKIE => Carrier::Cookie { permanent: lifetime == Some(PERMANENT) },
            _ => Carrier::Header,
        };
        let name = if carrier == Carrier::Header { name.to_ascii_lowercase() } else { name };
        Self { name, carrier, path: "/".to_owned(), terms: CookieTerms::default(), lasts }
    }

    /// By a cookie for this path; with an age, browsers keep it that long.
    pub(crate) fn cookie(name: String, path: String, terms: CookieTerms, max_age: Option<Duration>) -> Self {
        Self { name, carrier: Carrier::Cookie { permanent: max_age.is_some() }, path, terms, lasts: max_age }
    }

    /// The session that a request belongs to.
    pub(crate) fn token(&self, head: &RequestHead<'_>) -> Option<Token> {
        let text = match self.carrier {
            Carrier::Cookie { .. } => head.cookie(&self.name),
            Carrier::Header => head.header(&self.name),
        };
        Token::parse(&text?)
    }

    pub fn is_over(&self, token: Token, now: u64) -> bool {
        self.lasts.is_some_and(|lasts| token.since.saturating_add(lasts.as_secs()) <= now)
    }

    /// Begins a session with this pod.
    pub fn begin(&self, endpoint: &Endpoint, now: u64) -> Notice<'_> {
        let (name, value) = (self.name.as_str(), Token { pod: pod(endpoint), since: now }.text());
        match self.carrier {
            Carrier::Cookie { permanent } => {
                let (path, terms) = (self.path.as_str(), &self.terms);
                Notice::Cookie { name, value, max_age: self.lasts.filter(|_| permanent), path, terms }
            }
            Carrier::Header => Notice::Header { name, value },
        }
    }
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (pod, since) = text.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Self { pod: number(pod)?, since: number(since)? })
    }

    fn text(self) -> String {
        format!("{:016x}-{:x}", self.pod, self.since)
    }

    pub(crate) fn is_of(self, endpoint: &Endpoint) -> bool {
        self.pod == pod(endpoint)
    }
}

/// Of the pod's identity, so that every gateway knows it, and nobody learns the identity itself.
fn pod(endpoint: &Endpoint) -> u64 {
    spread(absorb(OFFSET, &endpoint.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session(from: serde_json::Value) -> Session {
        Session::compile(&serde_json::from_value(from).expect("a session"), &ObjectKey::new("web", "shop"), 1)
    }

    #[test]
    fn a_session_is_carried_as_it_says() {
        let day = Some(Duration::from_secs(24 * 60 * 60));
        for (from, name, carrier, lasts) in [
            (json!({}), "sluice-session-", Carrier::Cookie { permanent: false }, None),
            (json!({"sessionName": "Cart"}), "Cart", Carrier::Cookie { permanent: false }, None),
            (json!({"sessionName": "X-Cart", "type": "Header"}), "x-cart", Carrier::Header, None),
            (
                json!({"sessionName": "c", "absoluteTimeout": "24h", "cookieConfig": {"lifetimeType": "Permanent"}}),
                "c",
                Carrier::Cookie { permanent: true },
                day,
            ),
        ] {
            let found = session(from);
            assert!(found.name.starts_with(name), "{found:?}");
            assert_eq!((found.carrier, found.lasts), (carrier, lasts), "{name}");
        }
        let other = Session::compile(&SessionPersistence::default(), &ObjectKey::new("web", "shop"), 2);
        assert_ne!(other.name, session(json!({})).name, "every rule has sessions of its own");
    }

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = Token { pod: 7, since: 1_800_000_000 };
        assert_eq!(token.text(), "0000000000000007-6b49d200");
        assert_eq!(Token::parse(&token.text()), Some(token));
        for text in ["", "7", "-", "7-", "x-1", "7-1-1", "00000000000000000-1-"] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_session_is_over_when_its_time_is() {
        let token = Token { pod: 7, since: 100 };
        let lasting = session(json!({"absoluteTimeout": "10s"}));
        assert!(!lasting.is_over(token, 109) && lasting.is_over(token, 110));
        assert!(!session(json!({})).is_over(token, u64::MAX));
    }
}
