//! What the shop answers: a pure function of the request and what is wrong with the shop.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::sickness::Sickness;

/// Who the shop says it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub app: String,
    pub version: String,
    pub pod: String,
}

/// The parts of a request that answers depend on.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub path: &'a str,
    pub query: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    /// How many requests for pages came before this one: spreads the faults.
    pub nth: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub status: u16,
    /// How long the shop takes over it.
    pub after: Duration,
    pub body: Body,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    Json(Value),
    Text(&'static str),
    /// Give the request's own body back.
    Echo,
}

/// The longest time `/slow` waits.
const MAX_SLOW: Duration = Duration::from_secs(300);

pub(crate) fn answer(who: &Identity, sickness: &Sickness, question: &Question<'_>) -> Answer {
    let at_once = |status, body| Answer { status, after: Duration::ZERO, body };
    match question.path {
        "/healthz" => at_once(200, Body::Text("ok\n")),
        "/echo" => at_once(200, Body::Echo),
        "/slow" => match slow(question.query) {
            Some(after) => Answer { status: 200, after, body: page(who, question) },
            None => at_once(400, Body::Text("`ms` must be a whole number of milliseconds, at most 300000\n")),
        },
        path => match path.strip_prefix("/status/") {
            Some(code) => match code.parse::<u16>() {
                Ok(code) if (200..=599).contains(&code) => at_once(code, page(who, question)),
                _ => at_once(400, Body::Text("the code must be between 200 and 599\n")),
            },
            None => shop_page(who, sickness, question),
        },
    }
}

/// An ordinary page: the only kind that sickness touches.
fn shop_page(who: &Identity, sickness: &Sickness, question: &Question<'_>) -> Answer {
    let after = sickness.latency;
    if sickness.errors.hits(question.nth) {
        return Answer {
            status: 500,
            after,
            body: Body::Json(json!({"error": "out of stock", "version": who.version})),
        };
    }
    if sickness.wrong.hits(question.nth) {
        return Answer {
            status: 200,
            after,
            body: Body::Json(json!({"app": who.app, "version": who.version, "path": 404})),
        };
    }
    Answer { status: 200, after, body: page(who, question) }
}

fn page(who: &Identity, question: &Question<'_>) -> Body {
    let headers: Map<String, Value> =
        question.headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    Body::Json(json!({
        "app": who.app, "version": who.version, "pod": who.pod, "path": question.path, "headers": headers,
    }))
}

fn slow(query: &str) -> Option<Duration> {
    let ms = query.split('&').find_map(|pair| pair.strip_prefix("ms="))?;
    let after = Duration::from_millis(ms.parse().ok()?);
    (after <= MAX_SLOW).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, query: &str, pairs: &[(&str, &str)], nth: u64) -> Answer {
        let who = Identity { app: "shop".into(), version: "v2".into(), pod: "shop-1".into() };
        let sickness =
            Sickness::read(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).unwrap();
        answer(&who, &sickness, &Question { path, query, headers: vec![("host", "shop.local")], nth })
    }

    #[test]
    fn the_front_page_tells_who_answered() {
        let page = ask("/", "", &[], 0);
        assert_eq!(page.status, 200);
        assert_eq!(
            page.body,
            Body::Json(
                json!({"app": "shop", "version": "v2", "pod": "shop-1", "path": "/", "headers": {"host": "shop.local"}})
            )
        );
    }

    #[test]
    fn sickness_touches_pages_but_never_health() {
        let sick = [("DEMO_ERRORS", "100%"), ("DEMO_LATENCY", "200ms")];
        assert_eq!(ask("/", "", &sick, 0).status, 500);
        assert_eq!(ask("/", "", &sick, 0).after, Duration::from_millis(200));
        assert_eq!(ask("/healthz", "", &sick, 0).status, 200);
    }

    #[test]
    fn wrong_answers_look_healthy() {
        let page = ask("/", "", &[("DEMO_WRONG", "100%")], 0);
        assert_eq!(page.status, 200);
        assert_eq!(page.body, Body::Json(json!({"app": "shop", "version": "v2", "path": 404})));
    }

    #[test]
    fn tools_for_testing_clients() {
        assert_eq!(ask("/slow", "ms=250", &[], 0).after, Duration::from_millis(250));
        assert_eq!(ask("/slow", "ms=soon", &[], 0).status, 400);
        assert_eq!(ask("/slow", "ms=99999999", &[], 0).status, 400);
        assert_eq!(ask("/status/503", "", &[], 0).status, 503);
        assert_eq!(ask("/status/99", "", &[], 0).status, 400);
        assert_eq!(ask("/echo", "", &[], 0).body, Body::Echo);
    }
}
