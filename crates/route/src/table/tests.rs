//! Worlds written as JSON, requests as lines, decisions as text.

mod tls;
mod trust;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::facts::{
    Change, EndpointFacts, Entrance, GatewayFacts, ObjectKey, PodFacts, PodRef, RolloutFacts, RouteFacts, ServiceFacts,
    ServicePort, SliceFacts,
};
use crate::head::RequestHead;
use crate::split::Draws;
use crate::{Compiled, Compiler, Decision, Finding};

struct Town {
    compiler: Compiler,
    draws: Draws,
    last: Option<Compiled>,
    created: i64,
}

fn key(name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectKey::new(namespace, name)
}

impl Town {
    fn new() -> Self {
        let mut compiler = Compiler::new(8080);
        compiler.apply(Change::Class("sluice".into(), true));
        Self { compiler, draws: Draws::new(0, 1), last: None, created: 1 }
    }

    /// With one Gateway `default/gw` that takes routes of every namespace on port 80.
    fn with_gateway() -> Self {
        let mut town = Self::new();
        town.gateway("gw", json!([listener("http", 80, "")]));
        town
    }

    fn change(&mut self, change: Change) -> &mut Self {
        self.compiler.apply(change);
        if let Some(compiled) = self.compiler.compile() {
            self.last = Some(compiled);
        }
        self
    }

    fn gateway(&mut self, name: &str, listeners: Value) -> &mut Self {
        let mut spec = json!({"gatewayClassName": "sluice"});
        spec["listeners"] = listeners;
        let facts = GatewayFacts {
            generation: 1,
            created: 1,
            address: None,
            spec: serde_json::from_value(spec).expect("a Gateway spec"),
        };
        self.change(Change::Gateway(key(name), Some(facts)))
    }

    /// Later routes are younger. `parentRefs` is `default/gw` unless given.
    fn route(&mut self, name: &str, mut spec: Value) -> &mut Self {
        if spec.get("parentRefs").is_none() {
            spec["parentRefs"] = json!([{"name": "gw", "namespace": "default"}]);
        }
        self.created += 1;
        let spec = serde_json::from_value(spec).expect("an HTTPRoute spec");
        self.change(Change::Route(key(name), Some(RouteFacts { generation: 1, created: self.created, spec })))
    }

    /// A Service with port 80 in front of pods `name:hash`.
    fn service(&mut self, name: &str, pods: &[&str]) -> &mut Self {
        let service = key(name);
        let ports = vec![ServicePort { name: "http".into(), port: 80, ..Default::default() }];
        self.compiler.apply(Change::Service(service.clone(), Some(ServiceFacts { ports })));
        self.endpoints(name, pods)
    }

    fn endpoints(&mut self, name: &str, pods: &[&str]) -> &mut Self {
        let service = key(name);
        let mut endpoints = Vec::new();
        for pod in pods {
            let (pod, hash) = pod.split_once(':').unwrap_or((pod, ""));
            let number = pod.bytes().fold(0u16, |sum, byte| sum * 7 + u16::from(byte));
            let [high, low] = number.to_be_bytes();
            endpoints.push(EndpointFacts {
                addresses: vec![[127, 64, high, low].into()],
                ready: true,
                pod: Some(PodRef { name: pod.into(), uid: format!("uid-{pod}") }),
            });
            let replica_set = (!hash.is_empty()).then(|| format!("{}-{hash}", service.name));
            let facts = PodFacts { uid: format!("uid-{pod}"), hash: hash.into(), replica_set, terminating: false };
            self.compiler.apply(Change::Pod(ObjectKey::new(service.namespace.as_str(), pod), Some(facts)));
        }
        let ports = vec![ServicePort { name: "http".into(), port: 3000, ..Default::default() }];
        let slice = SliceFacts { service: service.name.clone(), ports, endpoints };
        self.change(Change::Slice(service, Some(slice)))
    }

    fn exposure(&mut self, deployment: &str, exposure: Value) -> &mut Self {
        let exposure = Some(serde_json::from_value(exposure).expect("an exposure"));
        let target = key(deployment);
        let facts = RolloutFacts { target: target.name.clone(), exposure };
        self.change(Change::Rollout(target, Some(facts)))
    }

    /// `GET host/path?query name=value ...` through the default entrance.
    fn ask(&mut self, request: &str) -> String {
        self.ask_at(Entrance::Default, request)
    }

    fn ask_at(&mut self, entrance: Entrance, request: &str) -> String {
        let mut words = request.split(' ');
        let method = words.next().expect("a method");
        let url = words.next().expect("a URL");
        let (host, path) = url.find('/').map_or((url, "/"), |at| url.split_at(at));
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let headers: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let head = RequestHead { method, host, path, query, headers: &headers };
        let Some(compiled) = &self.last else { return "no table".into() };
        match compiled.table.find(entrance, &head, &mut self.draws) {
            Decision::Refuse(refusal) => format!("{} {}", refusal.status(), refusal.reason()),
            Decision::Preflight(cors) => {
                format!("preflight {}", cors.preflight(&head).map_or(0, |answer| answer.len()))
            }
            Decision::Redirect { redirect, prefix } => {
                format!("{} {}", redirect.status, redirect.location(&head, "http", entrance.port(None), prefix))
            }
            Decision::Forward(forward) => {
                let rules = &forward.route;
                let versions: std::collections::BTreeSet<&str> =
                    forward.endpoints.iter().map(|endpoint| endpoint.version.hash.as_str()).collect();
                let versions: Vec<&str> = versions.into_iter().filter(|hash| !hash.is_empty()).collect();
                let backend = &forward.backend.key.service.name;
                format!("{} -> {backend} {}", rules.name, versions.join("+")).trim().to_owned()
            }
        }
    }

    fn check(&mut self, table: &[(&str, &str)]) {
        for (request, expected) in table {
            assert_eq!(self.ask(request), *expected, "{request}");
        }
    }

    /// How often each answer comes in so many requests.
    fn count(&mut self, request: &str, times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.ask(request)).or_default() += 1;
        }
        counts
    }

    /// `Accepted=True Programmed=False/PortUnavailable ...` of a Gateway, its listeners, or a route's first parent.
    fn says(&self, what: &str) -> String {
        let report = &self.last.as_ref().expect("a table").report;
        let (kind, name) = what.split_once(' ').expect("a kind and a name");
        match kind {
            "gateway" => words(&report.gateways[&key(name)].findings),
            "listeners" => {
                let listeners = report.gateways[&key(name)].listeners.iter();
                let lines = listeners.map(|listener| {
                    format!("{}({}) {}", listener.name, listener.attached_routes, words(&listener.findings))
                });
                lines.collect::<Vec<_>>().join("\n")
            }
            _ => match report.routes.get(&key(name)) {
                None => "nothing".into(),
                Some(route) => {
                    route.parents.iter().map(|parent| words(&parent.findings)).collect::<Vec<_>>().join("\n")
                }
            },
        }
    }
}

fn words(findings: &[Finding]) -> String {
    let word = |finding: &Finding| match (finding.holds, finding.reason == finding.kind) {
        (true, true) => finding.kind.to_owned(),
        (true, false) => format!("{}/{}", finding.kind, finding.reason),
        (false, _) => format!("!{}/{}", finding.kind, finding.reason),
    };
    findings.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn listener(name: &str, port: u16, hostname: &str) -> Value {
    let hostname = if hostname.is_empty() { Value::Null } else { json!(hostname) };
    json!({"name": name, "port": port, "protocol": "HTTP", "hostname": hostname,
        "allowedRoutes": {"namespaces": {"from": "All"}}})
}

fn to(service: &str) -> Value {
    json!([{"name": service, "port": 80}])
}

fn path(kind: &str, value: &str) -> Value {
    json!({"path": {"type": kind, "value": value}})
}

#[test]
fn the_narrowest_host_wins() {
    let mut town = Town::with_gateway();
    town.service("s", &["p"])
        .route("any", json!({"rules": [{"backendRefs": to("s")}]}))
        .route("wide", json!({"hostnames": ["*.example.com"], "rules": [{"backendRefs": to("s")}]}))
        .route("long", json!({"hostnames": ["*.a.example.com"], "rules": [{"backendRefs": to("s")}]}))
        .route(
            "exact",
            json!({"hostnames": ["x.a.example.com"],
            "rules": [{"matches": [path("PathPrefix", "/only")], "backendRefs": to("s")}]}),
        );
    town.check(&[
        ("GET x.a.example.com/only", "exact -> s"),
        // A narrower host that has no matching rule leaves the request to the next wider one.
        ("GET x.a.example.com/else", "long -> s"),
        ("GET y.a.example.com/", "long -> s"),
        ("GET b.example.com/", "wide -> s"),
        ("GET example.com/", "any -> s"),
        ("GET other.org/", "any -> s"),
    ]);
}

#[test]
fn the_narrowest_rule_wins_across_routes() {
    let mut town = Town::with_gateway();
    let rule = |matches: Value| json!({"rules": [{"matches": [matches], "backendRefs": to("s")}]});
    let header = |name: &str| json!({"name": name, "value": "1"});
    town.service("s", &["p"])
        .route("root", rule(path("PathPrefix", "/")))
        .route("prefix", rule(path("PathPrefix", "/shop")))
        .route("longer", rule(path("PathPrefix", "/shop/cart/")))
        .route("exact", rule(path("Exact", "/shop/cart")))
        .route("regex", rule(path("RegularExpression", "/shop/[0-9]+")))
        .route("method", rule(json!({"path": {"type": "PathPrefix", "value": "/m"}, "method": "PUT"})))
        .route("one", rule(json!({"path": {"type": "PathPrefix", "value": "/m"}, "headers": [header("a")]})))
        .route(
            "two",
            rule(json!({"path": {"type": "PathPrefix", "value": "/m"}, "headers": [header("a"), header("b")]})),
        )
        .route("query", rule(json!({"path": {"type": "PathPrefix", "value": "/m"}, "queryParams": [header("q")]})));
    town.check(&[
        ("GET h/", "root -> s"),
        ("GET h/shop", "prefix -> s"),
        ("GET h/shopping", "root -> s"),
        ("GET h/shop/x", "prefix -> s"),
        ("GET h/shop/12", "regex -> s"),
        ("GET h/shop/cart", "exact -> s"),
        ("GET h/shop/cart/", "longer -> s"),
        ("GET h/shop/cart/1", "longer -> s"),
        ("PUT h/m a=1 b=1", "method -> s"),
        ("GET h/m a=1", "one -> s"),
        ("GET h/m a=1 b=1", "two -> s"),
        ("GET h/m?q=1", "query -> s"),
        ("GET h/m?q=1 a=1", "one -> s"),
        ("GET h/m", "root -> s"),
    ]);
}

#[test]
fn of_equal_claims_the_older_route_wins() {
    let mut town = Town::with_gateway();
    let rules = json!({"rules": [{"backendRefs": to("s")}]});
    town.service("s", &["p"]).route("zebra", rules.clone()).route("ant", rules);
    assert_eq!(town.ask("GET h/"), "zebra -> s");
    town.change(Change::Route(key("zebra"), None));
    assert_eq!(town.ask("GET h/"), "ant -> s");
}

#[test]
fn a_request_with_nowhere_to_go_says_why() {
    let mut town = Town::with_gateway();
    let rule = |backends: Value| json!({"matches": [], "backendRefs": backends});
    let at = |prefix: &str, mut rule: Value| {
        rule["matches"] = json!([path("PathPrefix", prefix)]);
        rule
    };
    town.service("empty", &[]).service("s", &["p"]).route(
        "r",
        json!({"hostnames": ["h"], "rules": [
            at("/none", rule(json!([]))),
            at("/zero", rule(json!([{"name": "s", "port": 80, "weight": 0}]))),
            at("/missing", rule(to("nobody"))),
            at("/port", rule(json!([{"name": "s", "port": 81}]))),
            at("/kind", rule(json!([{"name": "s", "port": 80, "kind": "Bucket", "group": "x"}]))),
            at("/empty", rule(to("empty"))),
            at("/extension", json!({"backendRefs": to("s"), "filters": [{"type": "ExtensionRef"}]})),
            at("/ok", rule(to("s"))),
        ]}),
    );
    town.check(&[
        ("GET h/none", "500 no-backend"),
        ("GET h/zero", "500 no-backend"),
        ("GET h/missing", "500 invalid-backend"),
        ("GET h/port", "500 invalid-backend"),
        ("GET h/kind", "500 invalid-backend"),
        ("GET h/empty", "503 no-endpoints"),
        ("GET h/extension", "500 unusable-rule"),
        ("GET h/ok", "r -> s"),
        ("GET h/else", "404 no-route"),
        ("GET other/ok", "404 no-route"),
    ]);
    assert_eq!(town.says("route r"), "Accepted PartiallyInvalid/UnsupportedValue !ResolvedRefs/BackendNotFound");
    assert_eq!(town.ask_at(Entrance::Port(9999), "GET h/ok"), "404 no-route");
}

#[test]
fn another_namespace_needs_a_grant() {
    let mut town = Town::with_gateway();
    let backends = json!([{"name": "s", "namespace": "store", "port": 80}]);
    town.service("store/s", &["p"]).route("web/r", json!({"rules": [{"backendRefs": backends}]}));
    assert_eq!(town.ask("GET h/"), "500 invalid-backend");
    assert_eq!(town.says("route web/r"), "Accepted !ResolvedRefs/RefNotPermitted");
    let grant = |to: Value| {
        let from = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "web"}]);
        let spec = serde_json::from_value(json!({"from": from, "to": [to]})).expect("a grant");
        Change::Grant(key("store/g"), Some(spec))
    };
    town.change(grant(json!({"group": "", "kind": "Service", "name": "other"})));
    assert_eq!(town.ask("GET h/"), "500 invalid-backend");
    town.change(grant(json!({"group": "", "kind": "Service"})));
    assert_eq!((town.ask("GET h/"), town.says("route web/r")), ("r -> s".into(), "Accepted ResolvedRefs".into()));
}

#[test]
fn a_listener_takes_the_routes_it_allows() {
    let mut town = Town::new();
    let from = |name: &str, namespaces: Value| {
        json!({"name": name, "port": 80, "protocol": "HTTP", "hostname": format!("{name}.io"),
            "allowedRoutes": {"namespaces": namespaces}})
    };
    town.gateway(
        "gw",
        json!([
            from("same", json!({"from": "Same"})),
            from("all", json!({"from": "All"})),
            from("labelled", json!({"from": "Selector", "selector": {"matchExpressions":
                [{"key": "team", "operator": "In", "values": ["web"]}]}})),
            {"name": "grpc", "port": 80, "protocol": "HTTP", "hostname": "grpc.io",
                "allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}},
        ]),
    );
    town.change(Change::Namespace("b".into(), Some(BTreeMap::from([("team".into(), "web".into())]))));
    let at = |section: &str| {
        json!({"parentRefs": [{"name": "gw", "namespace": "default", "sectionName": section}],
            "rules": [{"backendRefs": to("s")}]})
    };
    let sections = ["same", "all", "labelled", "grpc", "absent"];
    for namespace in ["default", "a", "b"] {
        for section in sections {
            town.service(&format!("{namespace}/s"), &["p"]).route(&format!("{namespace}/{section}"), at(section));
        }
    }
    for (namespace, expected) in [("default", "++---"), ("a", "-+---"), ("b", "-++--")] {
        let accepted = sections.map(|section| {
            let says = town.says(&format!("route {namespace}/{section}"));
            if says.starts_with("Accepted") { '+' } else { '-' }
        });
        assert_eq!(accepted.iter().collect::<String>(), expected, "{namespace}");
    }
    assert_eq!(town.says("route a/same"), "!Accepted/NotAllowedByListeners ResolvedRefs");
    assert_eq!(town.says("route a/absent"), "!Accepted/NoMatchingParent ResolvedRefs");
    let attached = town.says("listeners gw");
    let counts: Vec<&str> = attached.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name).collect();
    assert_eq!(counts, ["same(1)", "all(3)", "labelled(1)", "grpc(0)"]);
    assert!(attached.contains("grpc(0) Accepted Programmed !ResolvedRefs/InvalidRouteKinds"), "{attached}");
}

#[test]
fn a_host_belongs_to_the_narrowest_listener_of_its_gateway() {
    let mut town = Town::new();
    town.gateway(
        "gw",
        json!([listener("any", 80, ""), listener("wild", 80, "*.example.com"), listener("one", 80, "a.example.com")]),
    );
    let at = |section: &str| json!({"parentRefs": [{"name": "gw", "sectionName": section}], "rules": [{"backendRefs": to("s")}]});
    town.service("s", &["p"]).route("any", at("any")).route("one", at("one"));
    town.check(&[
        ("GET other.org/", "any -> s"),
        ("GET a.example.com/", "one -> s"),
        ("GET b.example.com/", "404 no-route"),
    ]);
    // Another Gateway's narrower listener takes nothing away from this one.
    town.gateway("other/gw", json!([listener("theirs", 80, "*.org")]));
    assert_eq!(town.ask("GET other.org/"), "any -> s");
}

#[test]
fn gateways_and_listeners_say_what_is_wrong_with_them() {
    let mut town = Town::new();
    let https = json!({"name": "tls", "port": 443, "protocol": "TLS"});
    let tcp = json!({"name": "tcp", "port": 80, "protocol": "TCP"});
    town.gateway("gw", json!([listener("a", 80, "x"), listener("b", 80, "x"), tcp, https, listener("c", 9000, "")]));
    assert_eq!(
        town.says("listeners gw"),
        "a(0) Accepted Programmed ResolvedRefs !Conflicted/NoConflicts\n\
         b(0) !Accepted/HostnameConflict !Programmed/Invalid ResolvedRefs Conflicted/HostnameConflict\n\
         tcp(0) !Accepted/ProtocolConflict !Programmed/Invalid ResolvedRefs Conflicted/ProtocolConflict\n\
         tls(0) !Accepted/UnsupportedProtocol !Programmed/Invalid ResolvedRefs !Conflicted/NoConflicts\n\
         c(0) Accepted Programmed ResolvedRefs !Conflicted/NoConflicts"
    );
    assert_eq!(town.says("gateway gw"), "Accepted/ListenersNotValid Programmed");
    town.compiler.set_closed(BTreeMap::from([(Entrance::Port(9000), "port 9000 is taken".to_owned())]));
    town.gateway("gw", json!([listener("c", 9000, "")]));
    assert_eq!(
        town.says("listeners gw"),
        "c(0) Accepted !Programmed/PortUnavailable ResolvedRefs !Conflicted/NoConflicts"
    );
    assert_eq!(town.says("gateway gw"), "Accepted !Programmed/Invalid");
    town.gateway("none", json!([{"name": "t", "port": 1, "protocol": "TCP"}]));
    assert_eq!(town.says("gateway none"), "!Accepted/ListenersNotValid !Programmed/Invalid");
}

#[test]
fn a_gateway_of_another_class_is_not_ours() {
    let mut town = Town::with_gateway();
    town.service("s", &["p"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
    assert_eq!(town.ask("GET h/"), "r -> s");
    town.change(Change::Class("sluice".into(), false));
    assert_eq!((town.ask("GET h/"), town.says("route r")), ("404 no-route".into(), "nothing".into()));
}

#[test]
fn ports_lead_to_entrances() {
    let mut town = Town::new();
    town.gateway("gw", json!([listener("a", 80, "a"), listener("b", 8080, "b"), listener("c", 9000, "c")]));
    town.service("s", &["p"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
    for (request, default, other) in [("GET a/", 200, 404), ("GET b/", 200, 404), ("GET c/", 404, 200)] {
        let status = |answer: String| if answer.starts_with("404") { 404 } else { 200 };
        assert_eq!(status(town.ask(request)), default, "{request}");
        assert_eq!(status(town.ask_at(Entrance::Port(9000), request)), other, "{request}");
    }
    let entrances: Vec<Entrance> = town.last.as_ref().expect("a table").report.entrances.iter().copied().collect();
    assert_eq!(entrances, [Entrance::Default, Entrance::Port(9000)]);
}

#[test]
fn gateways_with_addresses_of_their_own_do_not_meet() {
    let mut town = Town::new();
    let pool = vec!["192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address")];
    town.compiler = Compiler::new(8080).with_addresses(pool);
    town.change(Change::Class("sluice".into(), true));
    let parent = |name: &str| json!([{"name": name}]);
    for name in ["one", "two", "three"] {
        town.gateway(name, json!([listener("http", 80, "")])).service(name, &["p"]);
        town.route(name, json!({"parentRefs": parent(name), "rules": [{"backendRefs": to(name)}]}));
    }
    let own = |last: u8| Entrance::Own(([192, 0, 2, last], 80).into());
    for (entrance, expected) in [(own(1), "one -> one"), (own(2), "two -> two"), (Entrance::Default, "three -> three")]
    {
        assert_eq!(town.ask_at(entrance, "GET h/"), expected, "{entrance:?}");
    }
}

#[test]
fn an_unsupported_protocol_supports_no_kinds() {
    let mut town = Town::new();
    town.gateway("gw", json!([listener("http", 80, ""), {"name": "udp", "port": 53, "protocol": "UDP"}]));
    let report = &town.last.as_ref().expect("a table").report.gateways[&key("gw")];
    let kinds: Vec<bool> = report.listeners.iter().map(|listener| listener.takes_http_routes).collect();
    assert_eq!(kinds, [true, false]);
}

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
fn what_did_not_change_is_shared_and_keeps_its_place() {
    let mut town = Town::with_gateway();
    town.service("a", &["p1"]).service("b", &["p2"]);
    let both = json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]);
    town.route("one", json!({"hostnames": ["one"], "rules": [{"backendRefs": both}]}));
    town.route("two", json!({"hostnames": ["two"], "rules": [{"backendRefs": to("b")}]}));
    let before = town.last.clone().expect("a table").table;
    assert_eq!(town.ask("GET one/"), "one -> a");
    town.route("two", json!({"hostnames": ["two"], "rules": [{"backendRefs": to("a")}]}));
    let after = town.last.clone().expect("a table").table;
    let host = |table: &crate::Table, host: &str| {
        table.entrances[&Entrance::Default].matching(host).next().cloned().expect("routes")
    };
    assert!(std::sync::Arc::ptr_eq(&host(&before, "one"), &host(&after, "one")));
    assert!(!std::sync::Arc::ptr_eq(&host(&before, "two"), &host(&after, "two")));
    assert_eq!(after.generation, before.generation + 1);
    // The split goes on where it was.
    assert_eq!((town.ask("GET one/"), town.ask("GET one/")), ("one -> b".into(), "one -> a".into()));
    // Saying the same again compiles nothing.
    town.compiler.apply(Change::Class("sluice".into(), true));
    assert!(town.compiler.compile().is_none());
}

#[test]
fn redirects_need_no_backend() {
    let mut town = Town::with_gateway();
    let redirect = json!([{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]);
    town.route("r", json!({"rules": [{"filters": redirect}]}));
    assert_eq!(town.ask("GET h/a?b"), "301 https://h/a?b");
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
    let head = RequestHead { method: "GET", host: "shop", path: "/", query: None, headers: &headers };
    let compiled = town.last.as_ref().expect("a table");
    let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
        panic!("the route leads somewhere")
    };
    let families: Vec<bool> = forward.endpoints.iter().map(|endpoint| endpoint.address.is_ipv4()).collect();
    assert_eq!(families, [true, true]);
}

/// Names of the Services that get a copy of each of so many requests.
fn copies(town: &mut Town, request: &str, times: usize) -> BTreeMap<String, usize> {
    let headers: [(&str, &str); 0] = [];
    let head = RequestHead { method: "GET", host: "h", path: request, query: None, headers: &headers };
    let compiled = town.last.clone().expect("a table");
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("{request} leads somewhere")
        };
        for endpoints in compiled.table.mirrored(&forward, &head, &mut town.draws) {
            *counts.entry(endpoints[0].uid.to_string()).or_default() += 1;
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
fn preflights_reach_no_backend() {
    let mut town = Town::with_gateway();
    let cors = json!([{"type": "CORS", "cors": {"allowOrigins": ["https://a"], "allowMethods": ["PUT"]}}]);
    town.service("s", &["p"]).route(
        "r",
        json!({"rules": [
            {"filters": cors, "backendRefs": to("gone")},
            {"matches": [path("PathPrefix", "/own")], "backendRefs": [{"name": "s", "port": 80, "filters": cors}]},
            {"matches": [path("PathPrefix", "/without")], "backendRefs": to("s")},
        ]}),
    );
    town.check(&[
        ("OPTIONS h/ origin=https://a access-control-request-method=PUT", "preflight 3"),
        ("OPTIONS h/ origin=https://b access-control-request-method=PUT", "preflight 0"),
        ("OPTIONS h/own origin=https://a access-control-request-method=PUT", "preflight 3"),
        ("OPTIONS h/without origin=https://a access-control-request-method=PUT", "r -> s"),
        ("OPTIONS h/own origin=https://a", "r -> s"),
        ("OPTIONS h/own access-control-request-method=PUT", "r -> s"),
        ("GET h/own origin=https://a access-control-request-method=PUT", "r -> s"),
    ]);
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
        let head = RequestHead { method: "GET", host: "h", path: "/", query: None, headers: &headers };
        let compiled = town.last.as_ref().expect("a table");
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("the route leads somewhere")
        };
        assert_eq!(forward.endpoints[0].protocol, expected, "{protocol}");
    }
}

mod conformance;
