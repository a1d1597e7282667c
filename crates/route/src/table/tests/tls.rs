//! Listeners of protocol HTTPS: which certificate a client gets, which requests belong to its connection, what is said.

use super::*;
use crate::facts::SecretFacts;
use crate::tls::{CertificateId, Transport};

const SECURE: Entrance = Entrance::Port(443);

/// With this Secret for a certificate.
fn https(name: &str, hostname: &str, secret: &str) -> Value {
    let mut listener = listener(name, 443, hostname);
    listener["protocol"] = json!("HTTPS");
    listener["tls"] = json!({"certificateRefs": [{"name": secret}]});
    listener
}

impl Town {
    fn secret(&mut self, name: &str, id: u64) -> &mut Self {
        self.change(Change::Secret(key(name), Some(SecretFacts::Certificate(CertificateId(id)))))
    }

    fn table(&self) -> &crate::Table {
        &self.last.as_ref().expect("a table").table
    }

    /// The certificates for this name, which may be empty.
    fn certificates(&self, server_name: &str) -> Vec<u64> {
        let name = Some(server_name).filter(|name| !name.is_empty());
        let found = self.table().listener(SECURE, name);
        found.iter().flat_map(|listener| &listener.certificates).map(|id| id.0).collect()
    }

    /// The status of a request for this host on a connection for this name.
    fn status(&mut self, server_name: Option<&str>, host: &str) -> String {
        let transport = server_name.map_or(Transport::Plain, |name| Transport::Tls {
            server_name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            is_verified: false,
        });
        if self.table().misdirected(SECURE, &transport, host) {
            return "421".into();
        }
        let answer = self.ask_at(SECURE, &format!("GET {host}/"));
        answer.split(' ').next_back().unwrap_or_default().to_owned()
    }

    /// Four listeners on one port, a route on each.
    fn secure() -> Self {
        let mut town = Self::new();
        town.secret("any", 1).secret("second", 2).secret("wildcard", 3).secret("fourth", 4);
        let listeners = [
            https("any", "", "any"),
            https("second", "second.org", "second"),
            https("wildcard", "*.wildcard.org", "wildcard"),
            https("fourth", "fourth.wildcard.org", "fourth"),
        ];
        town.gateway("gw", json!(listeners));
        for name in ["any", "second", "wildcard", "fourth"] {
            let parents = json!([{"name": "gw", "sectionName": name}]);
            let hostnames = if name == "any" { json!(["example.org"]) } else { json!([]) };
            town.service(name, &[&name[..1]]).route(
                name,
                json!({"parentRefs": parents, "hostnames": hostnames, "rules": [{"backendRefs": to(name)}]}),
            );
        }
        town
    }
}

#[test]
fn a_client_gets_the_certificate_of_the_narrowest_listener() {
    let mut town = Town::secure();
    for (server_name, expected) in [
        ("second.org", 2),
        ("a.wildcard.org", 3),
        ("a.b.wildcard.org", 3),
        ("fourth.wildcard.org", 4),
        ("wildcard.org", 1),
        ("elsewhere", 1),
        ("", 1),
    ] {
        assert_eq!(town.certificates(server_name), [expected], "{server_name}");
    }
    assert!(town.table().speaks_tls(SECURE) && !town.table().speaks_tls(Entrance::Default));
    town.gateway("gw", json!([https("second", "second.org", "second")]));
    for (server_name, expected) in [("second.org", &[2][..]), ("elsewhere", &[]), ("", &[])] {
        assert_eq!(town.certificates(server_name), expected, "{server_name}");
    }
}

#[test]
fn a_request_for_another_listener_is_misdirected() {
    let mut town = Town::secure();
    for (server_name, host, expected) in [
        ("example.org", "example.org", "any"),
        ("example.org", "second.org", "421"),
        ("example.org", "unknown.org", "no-route"),
        ("second.org", "second.org", "second"),
        ("second.org", "example.org", "421"),
        ("second.org", "unknown.org", "421"),
        ("third.wildcard.org", "third.wildcard.org", "wildcard"),
        ("third.wildcard.org", "fifth.wildcard.org", "wildcard"),
        ("third.wildcard.org", "fourth.wildcard.org", "421"),
        ("third.wildcard.org", "second.org", "421"),
        ("fourth.wildcard.org", "fourth.wildcard.org", "fourth"),
        ("fourth.wildcard.org", "fifth.wildcard.org", "421"),
        ("unknown.org", "example.org", "any"),
        ("unknown.org", "unknown.org", "no-route"),
        ("", "example.org", "any"),
        ("", "second.org", "421"),
    ] {
        assert_eq!(town.status(Some(server_name), host), expected, "{host} on a connection for {server_name}");
    }
    // A host of no listener at all is nobody's.
    town.gateway(
        "gw",
        json!([https("second", "second.org", "second"), https("fourth", "fourth.wildcard.org", "fourth")]),
    );
    assert_eq!(town.status(Some("second.org"), "unknown.org"), "no-route");
}

#[test]
fn a_connection_never_outlives_the_protocol_of_its_port() {
    let mut town = Town::secure();
    assert_eq!(town.status(None, "example.org"), "421");
    let mut plain = listener("any", 443, "");
    town.gateway("gw", json!([plain.clone()]));
    assert_eq!(town.status(None, "example.org"), "any");
    assert_eq!(town.status(Some("example.org"), "example.org"), "421");
    plain["port"] = json!(80);
    town.gateway("gw", json!([plain]));
    assert_eq!(town.status(Some("example.org"), "example.org"), "no-route");
}

#[test]
fn a_listener_says_what_is_wrong_with_its_certificates() {
    let served = "Accepted Programmed ResolvedRefs !Conflicted/NoConflicts";
    let unresolved = "Accepted !Programmed/Invalid !ResolvedRefs/InvalidCertificateRef !Conflicted/NoConflicts";
    let refused = "Accepted !Programmed/Invalid !ResolvedRefs/RefNotPermitted !Conflicted/NoConflicts";
    let unsupported = "!Accepted/UnsupportedValue !Programmed/Invalid ResolvedRefs !Conflicted/NoConflicts";
    let refs = |refs: Value| json!({"mode": "Terminate", "certificateRefs": refs});
    for (tls, expected) in [
        (refs(json!([{"name": "good"}])), served),
        (refs(json!([{"group": "", "kind": "Secret", "name": "good", "namespace": "default"}])), served),
        (refs(json!([{"name": "good"}, {"name": "other"}])), served),
        (refs(json!([{"name": "gone"}])), unresolved),
        (refs(json!([{"name": "broken"}])), unresolved),
        (refs(json!([{"name": "good"}, {"name": "broken"}])), unresolved),
        (refs(json!([{"group": "wrong", "name": "good"}])), unresolved),
        (refs(json!([{"kind": "Wrong", "name": "good"}])), unresolved),
        (refs(json!([{"name": "theirs", "namespace": "them"}])), refused),
        (refs(json!([{"name": "gone", "namespace": "them"}])), refused),
        (refs(json!([])), unsupported),
        (json!({"mode": "Passthrough"}), unsupported),
        (json!({"certificateRefs": [{"name": "good"}], "options": {"example.com/x": "y"}}), unsupported),
        (Value::Null, unsupported),
    ] {
        let mut town = Town::new();
        town.secret("good", 1).secret("other", 2).secret("them/theirs", 3);
        town.change(Change::Secret(key("broken"), Some(SecretFacts::Unusable("it is not PEM".into()))));
        let mut listener = https("x", "", "");
        listener["tls"] = tls;
        town.gateway("gw", json!([listener]));
        assert_eq!(town.says("listeners gw"), format!("x(0) {expected}"), "{listener}");
        let gateway = match expected {
            _ if expected == served => "Accepted Programmed",
            _ if expected == unsupported => "!Accepted/ListenersNotValid !Programmed/Invalid",
            _ => "Accepted !Programmed/Invalid",
        };
        assert_eq!(town.says("gateway gw"), gateway, "{listener}");
        assert_eq!(town.table().speaks_tls(SECURE), expected == served, "{listener}");
        assert_eq!(town.last.as_ref().expect("a table").report.entrances.contains(&SECURE), expected == served);
    }
}

#[test]
fn a_secret_elsewhere_needs_a_grant_for_gateways() {
    let good = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"});
    let with = |member: &str, value: &str| {
        let mut from = good.clone();
        from[member] = json!(value);
        from
    };
    let secret = json!({"group": "", "kind": "Secret"});
    let named = |name: &str| json!({"group": "", "kind": "Secret", "name": name});
    for (namespace, from, to, granted) in [
        ("them", good.clone(), secret.clone(), true),
        ("them", good.clone(), named("theirs"), true),
        ("them", good.clone(), named("another"), false),
        ("them", good.clone(), json!({"group": "", "kind": "Service"}), false),
        ("them", good.clone(), json!({"group": "wrong", "kind": "Secret"}), false),
        ("them", with("kind", "HTTPRoute"), secret.clone(), false),
        ("them", with("group", "wrong"), secret.clone(), false),
        ("them", with("namespace", "others"), secret.clone(), false),
        ("others", good.clone(), secret.clone(), false),
    ] {
        let mut town = Town::new();
        town.secret("them/theirs", 1);
        let grant = serde_json::from_value(json!({"from": [from], "to": [to]})).expect("a grant");
        town.change(Change::Grant(ObjectKey::new(namespace, "grant"), Some(grant)));
        let mut listener = https("x", "", "theirs");
        listener["tls"]["certificateRefs"][0]["namespace"] = json!("them");
        town.gateway("gw", json!([listener]));
        let found = town.says("listeners gw").contains("Programmed ResolvedRefs");
        assert_eq!(found, granted, "from {from} to {to} in {namespace}");
        // Nobody looks at a Secret that may not be used.
        town.compiler.apply(Change::Class("sluice".into(), false));
        town.compiler.apply(Change::Class("sluice".into(), true));
        let wanted = town.compiler.needs().expect("it may have changed");
        assert_eq!(wanted.secrets.contains(&key("them/theirs")), granted);
    }
}

#[test]
fn a_listener_without_its_certificate_counts_its_routes_and_serves_none() {
    let mut town = Town::new();
    town.secret("good", 1).service("s", &["p"]);
    town.gateway("gw", json!([https("good", "", "good")]));
    town.gateway("bad", json!([https("bad", "", "gone"), https("narrow", "shop.org", "gone")]));
    town.route("r", json!({"parentRefs": [{"name": "bad"}], "rules": [{"backendRefs": to("s")}]}));
    assert_eq!(town.says("route r"), "Accepted ResolvedRefs");
    let listeners = town.says("listeners bad");
    assert!(listeners.starts_with("bad(1)") && listeners.contains("\nnarrow(1)"), "{listeners}");
    // Not by another Gateway's listener either, whose own hosts stay whole.
    assert_eq!(town.status(Some("shop.org"), "shop.org"), "no-route");
    town.secret("gone", 2);
    assert_eq!((town.status(Some("shop.org"), "shop.org"), town.certificates("shop.org")), ("s".into(), vec![2]));
}

#[test]
fn of_several_gateways_the_older_has_what_both_want() {
    let mut town = Town::new();
    town.secret("mine", 1).secret("theirs", 2);
    let mut gateway = |name: &str, created, listeners: Value| {
        let spec = json!({"gatewayClassName": "sluice", "listeners": listeners});
        let spec = serde_json::from_value(spec).expect("a Gateway spec");
        town.change(Change::Gateway(key(name), Some(GatewayFacts { generation: 1, created, address: None, spec })));
    };
    gateway("z-old", 1, json!([https("x", "", "mine")]));
    gateway("a-new", 2, json!([https("x", "", "theirs"), https("y", "new.org", "theirs")]));
    gateway("b-plain", 3, json!([listener("plain", 443, "")]));
    assert_eq!((town.certificates("old.org"), town.certificates("new.org")), (vec![1], vec![2]));
    assert_eq!(
        town.says("listeners b-plain"),
        "plain(0) !Accepted/PortUnavailable !Programmed/Invalid ResolvedRefs !Conflicted/NoConflicts"
    );
    // On port 80 another protocol is refused just the same, also at the gateway's own port.
    let mut secure = https("x", "", "mine");
    secure["port"] = json!(8080);
    town.gateway("gw", json!([listener("plain", 80, "plain.org"), secure]));
    assert!(town.says("listeners gw").contains("\nx(0) !Accepted/PortUnavailable"), "{}", town.says("listeners gw"));
}

#[test]
fn listeners_with_hosts_in_common_say_so() {
    let mut town = Town::new();
    town.secret("s", 1);
    let listeners =
        [https("a", "a.org", "s"), https("b", "b.com", "s"), https("c", "*.org", "s"), listener("d", 80, "")];
    town.gateway("gw", json!(listeners));
    let overlap: Vec<bool> = town
        .says("listeners gw")
        .lines()
        .map(|line| line.ends_with("OverlappingTLSConfig/OverlappingHostnames"))
        .collect();
    assert_eq!(overlap, [true, false, true, false]);
}

#[test]
fn a_changed_certificate_changes_nothing_else() {
    let mut town = Town::secure();
    let before = town.table().clone();
    town.secret("second", 9);
    assert_eq!((town.certificates("second.org"), town.certificates("example.org")), (vec![9], vec![1]));
    let host = |table: &crate::Table| table.entrances[&SECURE].matching("second.org").next().cloned().expect("routes");
    assert!(std::sync::Arc::ptr_eq(&host(&before), &host(town.table())));
    assert!(town.compiler.needs().is_none(), "nothing has changed since");
}

#[test]
fn a_secret_that_is_spoilt_leaves_its_last_certificate_served() {
    let mut town = Town::new();
    town.secret("s", 1).gateway("gw", json!([https("x", "", "s")]));
    let spoilt = SecretFacts::Spoilt { last: CertificateId(1), why: "it is not PEM".into() };
    town.change(Change::Secret(key("s"), Some(spoilt)));
    let said = "x(0) Accepted Programmed !ResolvedRefs/InvalidCertificateRef !Conflicted/NoConflicts";
    assert_eq!((town.says("listeners gw"), town.certificates("a.org")), (said.into(), vec![1]));
    town.change(Change::Secret(key("s"), None));
    assert!(town.certificates("a.org").is_empty());
}
