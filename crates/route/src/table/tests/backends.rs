//! Who stands behind a Service, and which version of it gets how much.

use super::*;

#[test]
fn weights_are_exact_and_invalid_references_answer_their_share() {
    let mut town = Town::with_gateway();
    town.service("a", &["p1"]).service("b", &["p2"]);
    town.route(
        "r",
        json!({"rules": [{"backendRefs": [
        {"name": "a", "port": 80, "weight": 8}, {"name": "b", "port": 80, "weight": 1},
        {"name": "gone", "port": 80, "weight": 1}, {"name": "b", "port": 80, "weight": 0}]}]}),
    );
    let expected = BTreeMap::from([("r -> a".into(), 80), ("r -> b".into(), 10), ("500 invalid-backend".into(), 10)]);
    assert_eq!(town.count("GET h/", 100), expected);
}

#[test]
fn a_rollout_splits_the_versions_behind_a_service() {
    let mut town = Town::with_gateway();
    town.service("shop", &["a1:v1", "a2:v1", "b1:v2"]).route("r", json!({"rules": [{"backendRefs": to("shop")}]}));
    // Without a Rollout all endpoints share.
    assert_eq!(town.ask("GET h/"), "r -> shop v1+v2");
    town.exposure("shop", json!({"stable": "v1"}));
    assert_eq!(town.count("GET h/", 50), BTreeMap::from([("r -> shop v1".into(), 50)]));
    let beta = json!([{"headers": [{"name": "x-beta", "value": "1"}]}]);
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 0, "match": beta}));
    town.check(&[("GET h/", "r -> shop v1"), ("GET h/ x-beta=1", "r -> shop v2")]);
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 2500}));
    let split = BTreeMap::from([("r -> shop v1".into(), 300), ("r -> shop v2".into(), 100)]);
    assert_eq!(town.count("GET h/", 400), split);
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 10000}));
    assert_eq!(town.count("GET h/", 50), BTreeMap::from([("r -> shop v2".into(), 50)]));
}

#[test]
fn a_version_without_ready_endpoints_gets_nothing() {
    let mut town = Town::with_gateway();
    let beta = json!([{"headers": [{"name": "x-beta", "value": "1"}]}]);
    town.service("shop", &["a1:v1"]).route("r", json!({"rules": [{"backendRefs": to("shop")}]}));
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 5000, "match": beta}));
    assert_eq!(town.count("GET h/", 10), BTreeMap::from([("r -> shop v1".into(), 10)]));
    // Whoever asked for the candidate by name gets no other version instead.
    assert_eq!(town.ask("GET h/ x-beta=1"), "503 no-endpoints");
    town.endpoints("shop", &["b1:v2"]);
    assert_eq!(town.count("GET h/", 10), BTreeMap::from([("r -> shop v2".into(), 10)]));
    // But a version of share 0 never steps in.
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 0}));
    assert_eq!(town.ask("GET h/"), "503 no-endpoints");
}

#[test]
fn a_rollout_concerns_the_pods_of_its_own_deployment() {
    let mut town = Town::with_gateway();
    town.service("shop", &["a1:v1"]).service("cart", &["c1:v1"]);
    town.route(
        "r",
        json!({"rules": [
        {"matches": [path("PathPrefix", "/cart")], "backendRefs": to("cart")}, {"backendRefs": to("shop")}]}),
    );
    town.exposure("shop", json!({"stable": "v0"}));
    town.check(&[("GET h/", "503 no-endpoints"), ("GET h/cart", "r -> cart v1")]);
}

#[test]
fn terminating_unknown_and_replaced_pods_get_nothing() {
    let mut town = Town::with_gateway();
    town.service("s", &["p:v1"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
    let pod = |uid: &str, terminating| PodFacts { uid: uid.into(), hash: "v1".into(), replica_set: None, terminating };
    for (facts, expected) in [
        (Some(pod("uid-p", true)), "503 no-endpoints"),
        (Some(pod("uid-p", false)), "r -> s v1"),
        (Some(pod("uid-of-another", false)), "503 no-endpoints"),
        (None, "503 no-endpoints"),
    ] {
        town.change(Change::Pod(key("p"), facts));
        let served = town.last.as_ref().expect("a table").table.pods().len();
        assert_eq!((town.ask("GET h/").as_str(), served), (expected, usize::from(!expected.starts_with("503"))));
    }
}

#[test]
fn a_pod_with_an_address_of_each_family_is_one_endpoint() {
    let mut town = Town::with_gateway();
    town.service("shop", &["a", "b"]).route("r", json!({"rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]}));
    let ports = vec![ServicePort { name: "http".into(), port: 3000, ..Default::default() }];
    let endpoint = |address: &str, pod: &str| EndpointFacts {
        addresses: vec![address.parse().expect("an address")],
        ready: true,
        pod: Some(PodRef { name: pod.into(), uid: format!("uid-{pod}") }),
    };
    let endpoints = vec![endpoint("fd5c::2", "a"), endpoint("fd5c::3", "b")];
    town.change(Change::Slice(key("shop-v6"), Some(SliceFacts { service: "shop".into(), ports, endpoints })));
    let headers: [(&str, &str); 0] = [];
    let head = RequestHead { method: "GET", host: "shop", path: "/", query: None, headers: &headers, received: 0 };
    let compiled = town.last.as_ref().expect("a table");
    let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
        panic!("the route leads somewhere")
    };
    let families: Vec<bool> = forward.endpoints.iter().map(|endpoint| endpoint.address.is_ipv4()).collect();
    assert_eq!(families, [true, true]);
}

#[test]
fn a_port_that_speaks_something_else_is_no_backend() {
    for (protocol, expected) in [
        ("kubernetes.io/h2c", Some(crate::Protocol::Http2)),
        ("kubernetes.io/ws", Some(crate::Protocol::Http1)),
        ("grpc", Some(crate::Protocol::Http2)),
        ("HTTP", Some(crate::Protocol::Http1)),
        ("kubernetes.io/wss", None),
        ("example.com/own", None),
    ] {
        let mut town = Town::with_gateway();
        town.service("s", &["p"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
        let port = ServicePort { name: "http".into(), port: 80, app_protocol: Some(protocol.into()) };
        town.change(Change::Service(key("s"), Some(ServiceFacts { ports: vec![port] })));
        let Some(expected) = expected else {
            let found = (town.ask("GET h/"), town.says("route r"));
            assert_eq!(found, ("500 invalid-backend".into(), "Accepted !ResolvedRefs/UnsupportedProtocol".into()));
            continue;
        };
        let headers: [(&str, &str); 0] = [];
        let head = RequestHead { method: "GET", host: "h", path: "/", query: None, headers: &headers, received: 0 };
        let compiled = town.last.as_ref().expect("a table");
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("the route leads somewhere")
        };
        assert_eq!(forward.endpoints[0].protocol, expected, "{protocol}");
    }
}
