use serde_json::{Value, json};
use sluice_model::rollout::Compare;

use super::*;
use crate::report::Verdict;

fn terms(terms: &Value) -> Compare {
    let mut all = json!({"sample": "10%"});
    all.as_object_mut().expect("an object").extend(terms.as_object().expect("an object").clone());
    serde_json::from_value(all).expect("terms")
}

fn found(paths: &[&str]) -> Comparison {
    let difference = |path: &&str| Difference {
        path: (*path).to_owned(),
        kind: Kind::Value,
        stable: "1".to_owned(),
        candidate: "2".to_owned(),
    };
    Comparison { differences: paths.iter().map(difference).collect(), is_partial: false }
}

fn note(book: &mut Book, endpoint: &str, raw: &[&str], twin: Option<&[&str]>) {
    let (raw, twin) = (found(raw), twin.map(found));
    book.note(&Sample { endpoint, request: "r", statuses: (200, 200), found: &raw, twin: twin.as_ref() });
}

/// A candidate whose `price` differs in one of `bad` requests, where `id` always does and `order` does in every third.
fn book(limits: &Value, requests: usize, bad: usize) -> Report {
    let learns = limits.get("noise").is_none();
    let mut book = Book::new(&terms(limits));
    for at in 0..requests {
        let mut raw = vec!["json:$.id"];
        let mut twin = vec!["json:$.id"];
        if at % 3 == 0 {
            raw.push("json:$.order");
        }
        if at % 3 == 1 {
            twin.push("json:$.order");
        }
        if bad > 0 && at % bad == 0 {
            raw.push("json:$.price");
        }
        let asked_twice = book.is_learning() || (learns && at % 20 == 1);
        note(&mut book, "GET /", &raw, asked_twice.then_some(&twin[..]));
    }
    book.report()
}

#[test]
fn noise_is_told_from_what_the_candidate_does() {
    let report = book(&json!({"maxMismatch": "1%", "minSamples": 500}), 2000, 10);
    let places: Vec<(&str, bool)> =
        report.endpoints[0].paths.iter().map(|place| (place.path.as_str(), place.is_noise)).collect();
    assert_eq!(places, [("json:$.price", false), ("json:$.id", true), ("json:$.order", true)]);
    let rate = report.rate.expect("judged");
    assert!((rate - 0.1).abs() < 0.03, "{rate}");
    assert!(report.interval.0 <= rate && rate <= report.interval.1, "{:?}", report.interval);
    assert_eq!((report.samples, report.verdict), (2000, Verdict::Over));
}

#[test]
fn a_candidate_that_does_nothing_new_is_within_its_limit() {
    let report = book(&json!({"maxMismatch": "1%", "minSamples": 500}), 2000, 0);
    assert_eq!(report.verdict, Verdict::Within, "{report:?}");
    for (limits, requests, bad, expected) in [
        (json!({"maxMismatch": "1%"}), 15, 0, Verdict::Learning),
        (json!({"maxMismatch": "1%"}), 60, 0, Verdict::TooFew),
        (json!({}), 300, 0, Verdict::NoLimit),
        (json!({"maxMismatch": "1%", "noise": "0%", "minSamples": 10}), 30, 0, Verdict::Over),
    ] {
        assert_eq!(book(&limits, requests, bad).verdict, expected, "{limits}");
    }
}

#[test]
fn without_a_second_question_everything_counts() {
    let mut book = Book::new(&terms(&json!({"noise": "0%", "maxMismatch": "5%", "minSamples": 50})));
    assert!(!book.is_learning());
    for at in 0..100 {
        note(&mut book, "GET /", if at % 50 == 0 { &["status"] } else { &[] }, None);
    }
    let report = book.report();
    assert_eq!((report.rate, report.verdict), (Some(0.02), Verdict::Within));
    assert_eq!(report.evidence, "mismatch 2% of 100 requests, limit 5%");
}

#[test]
fn a_healthy_candidate_is_hardly_ever_accused() {
    // Its answers differ from the stable version's as often as those differ from each other.
    let mut accused = 0;
    for seed in 1..=200u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut chance = |one_in: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % one_in == 0
        };
        let mut book = Book::new(&terms(&json!({"maxMismatch": "0.1%", "minSamples": 100})));
        for _ in 0..3000 {
            let differ = |yes: bool| if yes { &["json:$.a"][..] } else { &[] };
            let raw = differ(chance(10));
            let asked_twice = book.is_learning() || chance(20);
            let twin = asked_twice.then(|| differ(chance(10)));
            note(&mut book, "GET /", raw, twin);
        }
        accused += usize::from(book.report().verdict == Verdict::Over);
    }
    assert!(accused <= 2, "{accused} of 200");
}

#[test]
fn a_book_stays_small_whatever_comes() {
    let mut book = Book::new(&terms(&json!({})));
    for at in 0..3000u32 {
        let paths: Vec<String> = (0..10).map(|n| format!("json:$.k{}", at * 10 + n)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let endpoint = format!("GET /{at}x");
        let raw = found(&paths);
        let statuses = (200, u16::try_from(at % 500).expect("small"));
        book.note(&Sample { endpoint: &endpoint, request: "r", statuses, found: &raw, twin: None });
        note(&mut book, "GET /", &["status"], None);
    }
    let report = book.report();
    assert!(report.endpoints.len() <= ENDPOINTS + 1);
    let places: usize = report.endpoints.iter().map(|endpoint| endpoint.paths.len()).sum();
    let examples = report.endpoints.iter().flat_map(|endpoint| &endpoint.paths).map(|place| place.examples.len()).max();
    assert!(places <= PATHS && report.elsewhere > 0 && report.statuses.len() <= STATUSES);
    assert_eq!(examples, Some(EXAMPLES));
    assert_eq!(report.samples, 6000);
}
