//! Certificates of clients: which listeners ask for whose, and what is said about references.

use super::*;
use crate::facts::{AuthoritiesFacts, SecretFacts};
use crate::tls::CertificateId;
use crate::trust::AuthoritiesId;

const SERVED: &str = "Accepted Programmed ResolvedRefs !Conflicted/NoConflicts";

fn config_map(name: &str) -> Value {
    json!({"group": "", "kind": "ConfigMap", "name": name})
}

fn believing(references: &[Value]) -> Value {
    json!({"validation": {"caCertificateRefs": references}})
}

impl Town {
    /// HTTPS on ports 443 and 8443, HTTP on 80, the authorities `ca` (1), `other` (2) and `them/ca` (3), Secret `own` (1).
    fn with_tls(tls: &Value) -> Self {
        let mut town = Self::new();
        town.change(Change::Secret(key("own"), Some(SecretFacts::Certificate(CertificateId(1)))));
        for (name, id) in [("ca", 1), ("other", 2), ("them/ca", 3)] {
            town.change(Change::Authorities(key(name), Some(AuthoritiesFacts::Known(AuthoritiesId(id)))));
        }
        let https = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "own"}]}});
        let spec = json!({"gatewayClassName": "sluice", "tls": tls,
            "listeners": [https("a", 443), https("b", 8443), listener("c", 80, "")]});
        let spec = serde_json::from_value(spec).expect("a Gateway spec");
        town.change(Change::Gateway(key("gw"), Some(GatewayFacts { generation: 1, created: 1, address: None, spec })));
        town
    }

    /// Authorities at this port, with `?` where they need not be met; `-` when nothing is asked for, `closed` without a listener.
    fn asked(&self, port: u16) -> String {
        let table = &self.last.as_ref().expect("a table").table;
        let Some(listener) = table.listener(Entrance::Port(port), None) else { return "closed".into() };
        let said = listener.clients.as_ref().map(|clients| {
            let ids: Vec<String> = clients.authorities.iter().map(|id| id.0.to_string()).collect();
            format!("{}{}", ids.join("+"), if clients.is_optional { "?" } else { "" })
        });
        said.unwrap_or("-".into())
    }
}

#[test]
fn a_port_asks_for_what_is_said_of_it_or_of_all() {
    let (mine, other) = (believing(&[config_map("ca")]), believing(&[config_map("other")]));
    let mut lenient = believing(&[config_map("ca"), config_map("other")]);
    lenient["validation"]["mode"] = json!("AllowInsecureFallback");
    for (frontend, first, second) in [
        (json!(null), "-", "-"),
        (json!({"default": {}}), "-", "-"),
        (json!({"default": mine}), "1", "1"),
        (json!({"default": mine, "perPort": [{"port": 8443, "tls": other}]}), "1", "2"),
        (json!({"default": mine, "perPort": [{"port": 8443, "tls": {}}]}), "1", "-"),
        (json!({"default": {}, "perPort": [{"port": 443, "tls": lenient}]}), "1+2?", "-"),
    ] {
        let town = Town::with_tls(&json!({"frontend": frontend}));
        assert_eq!((town.asked(443), town.asked(8443)), (first.into(), second.into()), "{frontend}");
        let served: Vec<String> = ["a", "b", "c"].iter().map(|name| format!("{name}(0) {SERVED}")).collect();
        assert_eq!(town.says("listeners gw"), served.join("\n"), "{frontend}");
        let warned = town.says("gateway gw").contains("InsecureFrontendValidationMode/ConfigurationChanged");
        assert_eq!(warned, frontend.to_string().contains("AllowInsecureFallback"));
    }
}

#[test]
fn a_listener_that_could_let_nobody_in_is_not_served_and_its_neighbours_are() {
    let closed = |reason: &str| {
        format!("!Accepted/NoValidCACertificate !Programmed/Invalid !ResolvedRefs/{reason} !Conflicted/NoConflicts")
    };
    let mut elsewhere = config_map("ca");
    elsewhere["namespace"] = json!("them");
    for (references, asked, said) in [
        (vec![config_map("gone")], "closed", closed("InvalidCACertificateRef")),
        (vec![config_map("broken")], "closed", closed("InvalidCACertificateRef")),
        (vec![json!({"group": "", "kind": "Service", "name": "ca"})], "closed", closed("InvalidCACertificateKind")),
        (vec![elsewhere.clone()], "closed", closed("RefNotPermitted")),
        (
            vec![config_map("gone"), config_map("ca")],
            "1",
            "Accepted Programmed !ResolvedRefs/InvalidCACertificateRef !Conflicted/NoConflicts".into(),
        ),
    ] {
        let per_port = json!([{"port": 443, "tls": believing(&references)}]);
        let tls = json!({"frontend": {"default": believing(&[config_map("other")]), "perPort": per_port}});
        let mut town = Town::with_tls(&tls);
        town.change(Change::Authorities(key("broken"), Some(AuthoritiesFacts::Unusable("it is empty".into()))));
        assert_eq!((town.asked(443), town.asked(8443)), (asked.into(), "2".into()), "{references:?}");
        let expected = format!("a(0) {said}\nb(0) {SERVED}\nc(0) {SERVED}");
        assert_eq!(town.says("listeners gw"), expected, "{references:?}");
    }
    let mut town = Town::with_tls(&json!({"frontend": {"default": believing(&[elsewhere])}}));
    let from = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}]);
    let grant = serde_json::from_value(json!({"from": from, "to": [{"group": "", "kind": "ConfigMap"}]}));
    town.change(Change::Grant(key("them/grant"), Some(grant.expect("a grant"))));
    assert_eq!(town.asked(443), "3");
    town.compiler.apply(Change::Class("sluice".into(), false));
    town.compiler.apply(Change::Class("sluice".into(), true));
    assert!(town.compiler.needs().expect("it may have changed").config_maps.contains(&key("them/ca")));
}

#[test]
fn what_a_gateway_shows_to_backends_is_its_own() {
    let served = "Accepted Programmed";
    for (reference, shown, said) in [
        (json!(null), None, served.to_owned()),
        (json!({"name": "own"}), Some(1), format!("{served} ResolvedRefs")),
        (json!({"name": "gone"}), None, format!("{served} !ResolvedRefs/InvalidClientCertificateRef")),
        (json!({"name": "own", "kind": "X"}), None, format!("{served} !ResolvedRefs/InvalidClientCertificateRef")),
        (json!({"name": "own", "namespace": "them"}), None, format!("{served} !ResolvedRefs/RefNotPermitted")),
    ] {
        let mut town = Town::with_tls(&json!({"backend": {"clientCertificateRef": reference}}));
        town.service("s", &["p"]).route("r", json!({"rules": [{"backendRefs": to("s")}]}));
        let head = RequestHead {
            method: "GET",
            host: "a",
            path: "/",
            query: None,
            headers: &Vec::<(&str, &str)>::new(),
            received: 0,
        };
        let compiled = town.last.as_ref().expect("a table");
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("the route leads somewhere")
        };
        assert_eq!(forward.shown.map(|id| id.0), shown, "{reference}");
        assert_eq!(town.says("gateway gw"), said, "{reference}");
    }
}

#[test]
fn a_gateway_that_is_refused_serves_nothing_and_says_why() {
    let address = |kind: &str, value: &str| json!({"addresses": [{"type": kind, "value": value}]});
    let parameters = json!({"infrastructure": {"parametersRef": {"group": "x.org", "kind": "X", "name": "x"}}});
    for (wishes, said, entrances) in [
        (json!({}), "Accepted Programmed", vec![Entrance::Own(([192, 0, 2, 1], 80).into())]),
        (address("IPAddress", "192.0.2.2"), "Accepted Programmed", vec![Entrance::Own(([192, 0, 2, 2], 80).into())]),
        (address("IPAddress", "192.0.2.9"), "Accepted !Programmed/AddressNotUsable", Vec::new()),
        (address("Hostname", "a.org"), "!Accepted/UnsupportedAddress !Programmed/Invalid", Vec::new()),
        (parameters, "!Accepted/InvalidParameters !Programmed/Invalid", Vec::new()),
        (json!({"infrastructure": {}}), "Accepted Programmed", vec![Entrance::Own(([192, 0, 2, 1], 80).into())]),
    ] {
        let mut town = Town::new();
        let pool = vec!["192.0.2.1".parse().expect("an address"), "192.0.2.2".parse().expect("an address")];
        town.compiler = Compiler::new(8080).with_addresses(pool);
        town.change(Change::Class("sluice".into(), true));
        let mut spec = wishes.clone();
        spec["gatewayClassName"] = json!("sluice");
        spec["listeners"] = json!([listener("http", 80, "")]);
        let spec = serde_json::from_value(spec).expect("a Gateway spec");
        town.change(Change::Gateway(key("gw"), Some(GatewayFacts { generation: 1, created: 1, address: None, spec })));
        assert_eq!(town.says("gateway gw"), said, "{wishes}");
        let found: Vec<Entrance> = town.last.as_ref().expect("a table").report.entrances.iter().copied().collect();
        assert_eq!(found, entrances, "{wishes}");
        town.route("r", json!({"rules": []}));
        assert_eq!(town.says("route r"), "Accepted ResolvedRefs", "{wishes}");
    }
}
