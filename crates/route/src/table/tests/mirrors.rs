//! Which copies of requests go where.

use super::*;

/// Names of the Services that get a copy of each of so many requests.
fn copies(town: &mut Town, request: &str, times: usize) -> BTreeMap<String, usize> {
    copies_of(town, "GET", request, times)
}

fn copies_of(town: &mut Town, method: &str, request: &str, times: usize) -> BTreeMap<String, usize> {
    let headers: [(&str, &str); 0] = [];
    let head = RequestHead { method, host: "h", path: request, query: None, headers: &headers, received: 0 };
    let compiled = town.last.clone().expect("a table");
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("{request} leads somewhere")
        };
        for copied in compiled.table.mirrored(&forward, &head, &mut town.draws) {
            *counts.entry(copied.endpoints[0].uid.to_string()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn mirrors_get_their_exact_share() {
    let mut town = Town::with_gateway();
    let mirror = |service: &str, share: Value| {
        let mut mirror = json!({"backendRef": {"name": service, "port": 80}});
        mirror.as_object_mut().expect("an object").extend(share.as_object().expect("a share").clone());
        json!({"type": "RequestMirror", "requestMirror": mirror})
    };
    let at = |prefix: &str, filters: Value, own: Value| {
        json!({"matches": [path("PathPrefix", prefix)], "filters": filters,
            "backendRefs": [{"name": "s", "port": 80, "filters": own}]})
    };
    town.service("s", &["p"]).service("a", &["a"]).service("b", &["b"]).service("empty", &[]).route(
        "r",
        json!({"rules": [
            at("/all", json!([mirror("a", json!({}))]), json!([])),
            at("/share", json!([mirror("a", json!({"percent": 20}))]), json!([])),
            at("/fraction", json!([mirror("a", json!({"fraction": {"numerator": 25, "denominator": 50}}))]), json!([])),
            at("/default", json!([mirror("a", json!({"fraction": {"numerator": 3}}))]), json!([])),
            at("/none", json!([mirror("a", json!({"percent": 0}))]), json!([])),
            at("/two", json!([mirror("a", json!({"percent": 50})), mirror("b", json!({}))]), json!([])),
            at("/own", json!([]), json!([mirror("b", json!({"percent": 10}))])),
            at("/empty", json!([mirror("empty", json!({}))]), json!([])),
        ]}),
    );
    assert_eq!(town.says("route r"), "Accepted ResolvedRefs");
    for (path, expected) in [
        ("/all", vec![("a", 500)]),
        ("/share", vec![("a", 100)]),
        ("/fraction", vec![("a", 250)]),
        ("/default", vec![("a", 15)]),
        ("/none", vec![]),
        ("/two", vec![("a", 250), ("b", 500)]),
        ("/own", vec![("b", 50)]),
        ("/empty", vec![]),
    ] {
        let expected = expected.into_iter().map(|(name, count)| (format!("uid-{name}"), count)).collect();
        assert_eq!(copies(&mut town, path, 500), expected, "{path}");
    }
}

#[test]
fn a_mirror_to_nobody_is_told_and_costs_no_request() {
    for (reference, reason) in [
        (json!({"name": "gone", "port": 80}), "BackendNotFound"),
        (json!({"name": "s", "port": 81}), "BackendNotFound"),
        (json!({"name": "s", "namespace": "other", "port": 80}), "RefNotPermitted"),
        (json!({"name": "s", "kind": "Bucket", "group": "x"}), "InvalidKind"),
    ] {
        let mut town = Town::with_gateway();
        let filters = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": reference}}]);
        town.service("s", &["p"]).route("r", json!({"rules": [{"filters": filters, "backendRefs": to("s")}]}));
        assert_eq!(town.says("route r"), format!("Accepted !ResolvedRefs/{reason}"));
        assert_eq!((town.ask("GET h/"), copies(&mut town, "/", 10)), ("r -> s".into(), BTreeMap::new()));
    }
}

#[test]
fn a_mirrored_service_stays_known_when_no_route_sends_to_it() {
    let mut town = Town::with_gateway();
    let mirror = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "a", "port": 80}}}]);
    town.service("s", &["p"]).service("a", &["a"]);
    town.route("r", json!({"rules": [{"filters": mirror, "backendRefs": to("s")}]}));
    assert_eq!(copies(&mut town, "/", 1), BTreeMap::from([("uid-a".into(), 1)]));
    town.route("other", json!({"hostnames": ["x"], "rules": [{"backendRefs": to("s")}]})).endpoints("a", &["a2"]);
    assert_eq!(copies(&mut town, "/", 1), BTreeMap::from([("uid-a2".into(), 1)]));
}

#[test]
fn a_rollout_copies_a_share_of_what_its_stable_version_answers() {
    let mut town = Town::with_gateway();
    town.service("s", &["old:v1", "new:v2"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
    let exposure = |weight: u32, share: u32, methods: Value| json!({"stable": "v1", "candidate": "v2", "candidateWeight": weight, "copies": {"share": share, "methods": methods}});
    for (weight, share, methods, method, expected) in [
        (0, 2000, json!(["GET", "HEAD"]), "GET", 200),
        (0, 2000, json!(["GET", "HEAD"]), "POST", 0),
        (0, 2000, json!(["POST"]), "POST", 200),
        (0, 1, json!(["GET"]), "GET", 0),
        (0, 10_000, json!(["GET"]), "GET", 1000),
        // Of the half that the stable version gets.
        (5000, 2000, json!(["GET"]), "GET", 100),
        (10_000, 2000, json!(["GET"]), "GET", 0),
    ] {
        town.exposure("s", exposure(weight, share, methods.clone()));
        let found = copies_of(&mut town, method, "/", 1000);
        let expected: BTreeMap<_, _> =
            [("uid-new".to_owned(), expected)].into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, expected, "{method} with {weight} of traffic and {share} of {methods}");
    }
    // Nobody is ready there, and then there is nobody at all.
    town.exposure("s", exposure(0, 10_000, json!(["GET"]))).endpoints("s", &["old:v1"]);
    assert_eq!(copies(&mut town, "/", 10), BTreeMap::new());
    town.exposure("s", json!({"stable": "v1"})).endpoints("s", &["old:v1", "new:v2"]);
    assert_eq!(copies(&mut town, "/", 10), BTreeMap::new());
}

#[test]
fn a_share_of_copies_that_stays_keeps_its_place() {
    let mut town = Town::with_gateway();
    town.service("s", &["old:v1", "new:v2"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
    let exposure = json!({"stable": "v1", "candidate": "v2", "copies": {"share": 2000, "methods": ["GET"]}});
    let mut copied = 0;
    for round in 0..100 {
        town.exposure("s", exposure.clone()).endpoints("s", &["old:v1", "new:v2", &format!("n{round}:v2")]);
        copied += copies(&mut town, "/", 1).values().sum::<usize>();
    }
    assert_eq!(copied, 20);
}
