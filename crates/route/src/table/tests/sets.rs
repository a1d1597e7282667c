//! ListenerSets: whom a Gateway lets in, who has what several want, whose routes hang where.

use super::*;
use crate::facts::ListenerSetFacts;

const SERVED: &str = "Accepted Programmed ResolvedRefs !Conflicted/NoConflicts";
const SAME_HOST: &str =
    "!Accepted/HostnameConflict !Programmed/HostnameConflict ResolvedRefs Conflicted/HostnameConflict";
const OTHER_PROTOCOL: &str =
    "!Accepted/ProtocolConflict !Programmed/ProtocolConflict ResolvedRefs Conflicted/ProtocolConflict";

fn tcp(name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": "TCP"})
}

impl Town {
    /// A Gateway `default/gw` that lets ListenerSets in `from` there.
    fn open_to(from: &Value, listeners: Value) -> Self {
        let mut town = Self::new();
        let mut spec = json!({"gatewayClassName": "sluice", "allowedListeners": {"namespaces": from}});
        spec["listeners"] = listeners;
        let spec = serde_json::from_value(spec).expect("a Gateway spec");
        town.change(Change::Gateway(key("gw"), Some(GatewayFacts { generation: 1, created: 1, address: None, spec })));
        town
    }

    /// For Gateway `default/gw`.
    fn set(&mut self, name: &str, created: i64, listeners: Value) -> &mut Self {
        let mut spec = json!({"parentRef": {"name": "gw", "namespace": "default"}});
        spec["listeners"] = listeners;
        let spec = serde_json::from_value(spec).expect("a ListenerSet spec");
        self.change(Change::ListenerSet(key(name), Some(ListenerSetFacts { generation: 1, created, spec })))
    }

    fn set_says(&self, name: &str) -> String {
        let report = &self.last.as_ref().expect("a table").report;
        report.listener_sets.get(&key(name)).map_or("nothing".into(), |set| words(&set.findings))
    }

    fn set_listeners(&self, name: &str) -> Vec<String> {
        let report = &self.last.as_ref().expect("a table").report;
        let listeners = report.listener_sets[&key(name)].listeners.iter();
        listeners.map(|one| format!("{}({}) {}", one.name, one.attached_routes, words(&one.findings))).collect()
    }

    fn attached_sets(&self) -> i32 {
        self.last.as_ref().expect("a table").report.gateways[&key("gw")].listener_sets
    }
}

#[test]
fn a_gateway_lets_in_the_listener_sets_that_it_allows() {
    let refused = "!Accepted/NotAllowed !Programmed/NotAllowed";
    for (from, own, labelled, other) in [
        (json!(null), false, false, false),
        (json!({}), false, false, false),
        (json!({"from": "None"}), false, false, false),
        (json!({"from": "Same"}), true, false, false),
        (json!({"from": "All"}), true, true, true),
        (json!({"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}), false, true, false),
        (json!({"from": "Selector"}), false, false, false),
    ] {
        let mut town = Town::open_to(&from, json!([listener("own", 80, "own")]));
        town.change(Change::Namespace("web".into(), Some(BTreeMap::from([("team".into(), "web".into())]))));
        town.change(Change::Namespace("other".into(), Some(BTreeMap::new())));
        for (name, admitted) in [("default/s", own), ("web/s", labelled), ("other/s", other)] {
            town.set(name, 1, json!([listener("x", 80, name)]));
            let expected = if admitted { "Accepted Programmed" } else { refused };
            assert_eq!(town.set_says(name), expected, "{name} with {from}");
        }
        let admitted = [own, labelled, other].into_iter().filter(|admitted| *admitted).count();
        assert_eq!(usize::try_from(town.attached_sets()), Ok(admitted), "{from}");
    }
}

#[test]
fn a_listener_set_for_no_gateway_of_ours_is_not_spoken_of() {
    let mut town = Town::open_to(&json!({"from": "All"}), json!([listener("own", 80, "own")]));
    town.set("s", 1, json!([listener("x", 80, "x")]));
    town.change(Change::Class("sluice".into(), false));
    assert_eq!(town.set_says("s"), "nothing");
    town.change(Change::Class("sluice".into(), true));
    assert_eq!(town.set_says("s"), "Accepted Programmed");
}

#[test]
fn the_gateway_goes_before_its_listener_sets_and_the_older_before_the_younger() {
    let mut town = Town::open_to(&json!({"from": "All"}), json!([listener("g", 80, "g")]));
    town.set("b-old", 1, json!([listener("one", 80, "one"), tcp("tcp", 80), listener("g", 80, "g")]));
    town.set("a-young", 2, json!([listener("one", 80, "one"), listener("two", 80, "two")]));
    town.set("c-young", 2, json!([listener("two", 80, "two"), tcp("tcp", 9000)]));
    town.set("d", 3, json!([listener("two", 80, "two")]));
    assert_eq!(town.says("listeners gw"), format!("g(0) {SERVED}"));
    let unsupported = "!Accepted/UnsupportedProtocol !Programmed/Invalid ResolvedRefs !Conflicted/NoConflicts";
    for (set, said, listeners) in [
        (
            "b-old",
            "Accepted/ListenersNotValid Programmed",
            &[("one", SERVED), ("tcp", OTHER_PROTOCOL), ("g", SAME_HOST)][..],
        ),
        ("a-young", "Accepted/ListenersNotValid Programmed", &[("one", SAME_HOST), ("two", SERVED)]),
        (
            "c-young",
            "!Accepted/ListenersNotValid !Programmed/ListenersNotValid",
            &[("two", SAME_HOST), ("tcp", unsupported)],
        ),
        ("d", "!Accepted/ListenersNotValid !Programmed/ListenersNotValid", &[("two", SAME_HOST)]),
    ] {
        let expected: Vec<String> = listeners.iter().map(|(name, words)| format!("{name}(0) {words}")).collect();
        assert_eq!((town.set_says(set), town.set_listeners(set)), (said.into(), expected), "{set}");
    }
    assert_eq!(town.attached_sets(), 2);
    town.change(Change::ListenerSet(key("a-young"), None));
    assert_eq!(town.set_says("c-young"), "Accepted/ListenersNotValid Programmed");
}

#[test]
fn of_listeners_of_one_owner_that_conflict_none_is_served() {
    let http = |name: &str, host: &str| listener(name, 80, host);
    let https = |name: &str, host: &str| {
        let mut listener = listener(name, 443, host);
        listener["protocol"] = json!("HTTPS");
        listener
    };
    let tls = json!({"name": "t", "port": 443, "protocol": "TLS", "hostname": "a"});
    let udp = |port: u16| json!({"name": "u", "port": port, "protocol": "UDP"});
    for (listeners, conflicted) in [
        (json!([http("a", "x"), http("b", "y")]), ""),
        (json!([http("a", "x"), http("b", "X")]), "a/HostnameConflict b/HostnameConflict"),
        (json!([http("a", ""), http("b", ""), http("c", "z")]), "a/HostnameConflict b/HostnameConflict"),
        (
            json!([http("a", "x"), http("b", "y"), tcp("c", 80)]),
            "a/ProtocolConflict b/ProtocolConflict c/ProtocolConflict",
        ),
        (json!([tcp("a", 80), tcp("b", 80)]), "a/HostnameConflict b/HostnameConflict"),
        (json!([http("a", "x"), udp(80)]), ""),
        (json!([udp(80), udp(80)]), "u/HostnameConflict u/HostnameConflict"),
        (json!([https("s", "b"), tls]), ""),
        (json!([https("s", "a"), tls]), "s/HostnameConflict t/HostnameConflict"),
    ] {
        let mut town = Town::new();
        town.gateway("gw", listeners.clone());
        let report = town.last.as_ref().expect("a table").report.clone();
        let found = report.gateways[&key("gw")].listeners.iter().filter_map(|one| {
            let conflict = one.findings.iter().find(|found| found.kind == "Conflicted" && found.holds)?;
            Some(format!("{}/{}", one.name, conflict.reason))
        });
        assert_eq!(found.collect::<Vec<_>>().join(" "), conflicted, "{listeners}");
    }
}

#[test]
fn what_two_siblings_want_goes_to_whoever_comes_after_them() {
    let own = json!([listener("a", 80, "x"), listener("b", 80, "x")]);
    let mut town = Town::open_to(&json!({"from": "Same"}), own);
    town.set("s", 1, json!([listener("c", 80, "x")]));
    assert_eq!(town.says("gateway gw"), "!Accepted/ListenersNotValid !Programmed/Invalid");
    assert_eq!(
        (town.set_says("s"), town.set_listeners("s")),
        ("Accepted Programmed".into(), vec![format!("c(0) {SERVED}")])
    );
}

#[test]
fn a_route_hangs_on_the_owner_that_it_names() {
    let mut town = Town::open_to(&json!({"from": "All"}), json!([listener("one", 80, "gateway.org")]));
    let listeners =
        |host: &str| json!([listener("one", 80, &format!("one.{host}")), listener("two", 80, &format!("two.{host}"))]);
    town.set("set", 1, listeners("set.org")).set("web/set", 1, listeners("web.org")).service("s", &["p"]);
    let set = |section: Value| json!({"kind": "ListenerSet", "name": "set", "sectionName": section});
    let gateway = |section: Value| json!({"name": "gw", "sectionName": section});
    let hosts = ["gateway.org", "one.set.org", "two.set.org", "one.web.org"];
    for (parents, expected, said) in [
        (json!([gateway(json!(null))]), "+---", "Accepted ResolvedRefs"),
        (json!([set(json!(null))]), "-++-", "Accepted ResolvedRefs"),
        (json!([set(json!("one"))]), "-+--", "Accepted ResolvedRefs"),
        (json!([gateway(json!("two"))]), "----", "!Accepted/NoMatchingParent ResolvedRefs"),
        (
            json!([gateway(json!("two")), set(json!("two"))]),
            "--+-",
            "!Accepted/NoMatchingParent ResolvedRefs\nAccepted ResolvedRefs",
        ),
        (json!([{"kind": "ListenerSet", "name": "set", "namespace": "web"}]), "---+", "Accepted ResolvedRefs"),
        (json!([{"kind": "ListenerSet", "name": "gone"}]), "----", "nothing"),
        (json!([{"kind": "ListenerSet", "group": "x.org", "name": "set"}]), "----", "nothing"),
    ] {
        town.route("r", json!({"parentRefs": parents, "rules": [{"backendRefs": to("s")}]}));
        let reached = hosts.map(|host| if town.ask(&format!("GET {host}/")) == "r -> s" { '+' } else { '-' });
        assert_eq!(
            (reached.iter().collect::<String>(), town.says("route r")),
            (expected.into(), said.into()),
            "{parents}"
        );
    }
    town.route("r", json!({"parentRefs": [set(json!(null))], "rules": [{"backendRefs": to("s")}]}));
    assert_eq!(town.set_listeners("set")[0], format!("one(1) {SERVED}"));
    assert_eq!(town.says("listeners gw"), format!("one(0) {SERVED}"));
}

#[test]
fn a_listener_set_takes_routes_of_its_own_namespace() {
    let mut town = Town::open_to(&json!({"from": "All"}), json!([listener("one", 80, "gateway.org")]));
    town.set("web/set", 1, json!([{"name": "x", "port": 80, "protocol": "HTTP"}]))
        .service("web/s", &["p"])
        .service("s", &["q"]);
    let parent = json!([{"kind": "ListenerSet", "name": "set", "namespace": "web"}]);
    for (name, said) in [("web/r", "Accepted ResolvedRefs"), ("r", "!Accepted/NotAllowedByListeners ResolvedRefs")] {
        town.route(name, json!({"parentRefs": parent, "rules": [{"backendRefs": to("s")}]}));
        assert_eq!(town.says(&format!("route {name}")), said);
    }
}

#[test]
fn a_grant_for_gateways_is_none_for_their_listener_sets() {
    let https = json!([{"name": "x", "port": 443, "protocol": "HTTPS", "hostname": "set.org",
        "tls": {"certificateRefs": [{"name": "theirs", "namespace": "them"}]}}]);
    for (kind, said) in [
        ("ListenerSet", "Accepted Programmed"),
        ("Gateway", "!Accepted/ListenersNotValid !Programmed/ListenersNotValid"),
    ] {
        let mut town = Town::open_to(&json!({"from": "All"}), json!([listener("own", 80, "")]));
        let certificate = crate::facts::SecretFacts::Certificate(crate::tls::CertificateId(1));
        town.change(Change::Secret(key("them/theirs"), Some(certificate)));
        let from = json!([{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "default"}]);
        let grant = serde_json::from_value(json!({"from": from, "to": [{"group": "", "kind": "Secret"}]}));
        town.change(Change::Grant(key("them/grant"), Some(grant.expect("a grant"))));
        town.set("s", 1, https.clone());
        assert_eq!(town.set_says("s"), said, "{kind}");
        town.compiler.apply(Change::Class("sluice".into(), false));
        town.compiler.apply(Change::Class("sluice".into(), true));
        let needs = town.compiler.needs().expect("it may have changed");
        assert_eq!(needs.secrets.contains(&key("them/theirs")), kind == "ListenerSet");
    }
}

#[test]
fn a_listener_set_of_a_gateway_that_is_not_accepted_says_so() {
    let mut town = Town::new();
    town.set("s", 1, json!([listener("x", 80, "x")]));
    let parameters = json!({"parametersRef": {"group": "x.org", "kind": "X", "name": "x"}});
    for (wishes, said) in [
        (json!({}), "Accepted Programmed"),
        (json!({"infrastructure": parameters}), "!Accepted/ParentNotAccepted !Programmed/ParentNotProgrammed"),
        (
            json!({"addresses": [{"type": "Hostname", "value": "a.org"}]}),
            "!Accepted/ParentNotAccepted !Programmed/ParentNotProgrammed",
        ),
        (json!({"addresses": [{"type": "IPAddress", "value": "192.0.2.9"}]}), "Accepted !Programmed/ListenersNotValid"),
    ] {
        let mut spec = wishes.clone();
        spec["gatewayClassName"] = json!("sluice");
        spec["allowedListeners"] = json!({"namespaces": {"from": "All"}});
        spec["listeners"] = json!([listener("own", 80, "own")]);
        let spec = serde_json::from_value(spec).expect("a Gateway spec");
        town.change(Change::Gateway(key("gw"), Some(GatewayFacts { generation: 1, created: 1, address: None, spec })));
        assert_eq!(town.set_says("s"), said, "{wishes}");
        assert_eq!(town.attached_sets(), i32::from(said.starts_with("Accepted")), "{wishes}");
    }
}
