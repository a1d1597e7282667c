//! Listeners and their Gateways: who may attach, which socket leads where, what is said.

use super::*;

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
    let tcp = json!({"name": "tcp", "port": 81, "protocol": "TCP"});
    town.gateway("gw", json!([listener("a", 80, "x"), listener("b", 80, "x"), tcp, https, listener("c", 9000, "")]));
    assert_eq!(
        town.says("listeners gw"),
        "a(0) !Accepted/HostnameConflict !Programmed/HostnameConflict ResolvedRefs Conflicted/HostnameConflict\n\
         b(0) !Accepted/HostnameConflict !Programmed/HostnameConflict ResolvedRefs Conflicted/HostnameConflict\n\
         tcp(0) !Accepted/UnsupportedProtocol !Programmed/Invalid ResolvedRefs !Conflicted/NoConflicts\n\
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
