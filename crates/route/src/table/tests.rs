//! Worlds written as JSON, requests as lines, decisions as text.

mod backends;
mod clients;
mod conformance;
mod ingresses;
mod invalid;
mod listeners;
mod mirrors;
mod sessions;
mod sets;
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
        let head = RequestHead { method, host, path, query, headers: &headers, received: 0 };
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
                let rules = &forward.route.key;
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
