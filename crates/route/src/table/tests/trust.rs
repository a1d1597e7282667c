//! BackendTLSPolicies: which terms a backend gets, and what is said about each policy.

use super::*;
use crate::facts::{AuthoritiesFacts, PolicyFacts};
use crate::trust::{Authorities, AuthoritiesId, PeerName, TermsId};

const GOOD: &str = "Accepted ResolvedRefs";

fn validation(config_maps: &[&str], hostname: &str) -> Value {
    let reference = |name: &&str| json!({"group": "", "kind": "ConfigMap", "name": name});
    let references: Vec<Value> = config_maps.iter().map(reference).collect();
    json!({"caCertificateRefs": references, "hostname": hostname})
}

impl Town {
    /// A Service `s` with ports `one` (80) and `two` (81), a route to each, and the authorities `ca` and `other`.
    fn with_ports() -> Self {
        let mut town = Self::with_gateway();
        town.ports(&[("one", 80, None), ("two", 81, None)]);
        for (path_of, port) in [("/one", 80), ("/two", 81)] {
            let rules =
                json!([{"matches": [path("PathPrefix", path_of)], "backendRefs": [{"name": "s", "port": port}]}]);
            town.route(&path_of[1..], json!({"rules": rules}));
        }
        town.authorities("ca", Some(1)).authorities("other", Some(2));
        town
    }

    fn ports(&mut self, ports: &[(&str, u16, Option<&str>)]) -> &mut Self {
        let port = |&(name, port, app_protocol): &(&str, u16, Option<&str>)| ServicePort {
            name: name.into(),
            port,
            app_protocol: app_protocol.map(str::to_owned),
        };
        let ports: Vec<_> = ports.iter().map(port).collect();
        let behind = ports.iter().map(|port| ServicePort { port: 3000, ..port.clone() }).collect();
        self.compiler.apply(Change::Service(key("s"), Some(ServiceFacts { ports })));
        self.endpoints("s", &["p"]);
        let mut slice = self.compiler.world().slices[&key("s")].clone();
        slice.ports = behind;
        self.change(Change::Slice(key("s"), Some(slice)))
    }

    fn authorities(&mut self, name: &str, id: Option<u64>) -> &mut Self {
        let facts = id.map(|id| AuthoritiesFacts::Known(AuthoritiesId(id)));
        self.change(Change::Authorities(key(name), facts))
    }

    /// What becomes of `GET path`.
    fn decide(&mut self, path: &str) -> Decision<'_> {
        let head = RequestHead {
            method: "GET",
            host: "a",
            path,
            query: None,
            headers: &Vec::<(&str, &str)>::new(),
            received: 0,
        };
        self.last.as_ref().expect("a table").table.find(Entrance::Default, &head, &mut self.draws)
    }

    fn terms_id(&mut self) -> TermsId {
        match self.decide("/one") {
            Decision::Forward(forward) => forward.endpoints[0].tls.as_ref().expect("terms").id,
            other => panic!("{other:?}"),
        }
    }

    /// For port `section` of Service `s`, or all of it.
    fn policy(&mut self, name: &str, created: i64, section: Option<&str>, validation: &Value) -> &mut Self {
        let target = json!({"group": "", "kind": "Service", "name": "s", "sectionName": section});
        self.policy_of(name, created, json!({"targetRefs": [target], "validation": validation}))
    }

    fn policy_of(&mut self, name: &str, created: i64, spec: Value) -> &mut Self {
        let spec = serde_json::from_value(spec).expect("a policy");
        self.change(Change::Policy(key(name), Some(PolicyFacts { generation: 1, created, spec })))
    }

    /// `HOSTNAME of AUTHORITIES as NAMES` of a request's backend, `open`, or why there is none.
    fn terms(&mut self, path: &str) -> String {
        match self.decide(path) {
            Decision::Refuse(refusal) => format!("{} {}", refusal.status(), refusal.reason()),
            Decision::Forward(forward) => match &forward.endpoints[0].tls {
                None => "open".into(),
                Some(tls) => {
                    let authorities = match &tls.terms.authorities {
                        Authorities::System => "system".into(),
                        Authorities::Listed(ids) => ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join("+"),
                    };
                    let name = |name: &PeerName| match name {
                        PeerName::Host(name) | PeerName::Uri(name) => name.clone(),
                    };
                    let names: Vec<String> = tls.terms.names.iter().map(name).collect();
                    format!("{} of {authorities} as {}", tls.terms.server_name, names.join("+"))
                }
            },
            other => panic!("{other:?}"),
        }
    }

    fn policy_says(&self, name: &str) -> String {
        let report = &self.last.as_ref().expect("a table").report;
        report.policies.get(&key(name)).map_or("nothing".into(), |policy| {
            let gateways: Vec<&str> = policy.ancestors.iter().map(|gateway| gateway.name.as_str()).collect();
            format!("{}: {}", gateways.join("+"), words(&policy.findings))
        })
    }
}

#[test]
fn a_policy_for_a_port_goes_before_one_for_the_service_and_the_older_before_the_younger() {
    for (policies, one, two, said) in [
        (&[][..], "open", "open", &[][..]),
        (&[("a", 1, None)], "a", "a", &[("a", true)]),
        (&[("a", 1, Some("one"))], "a", "open", &[("a", true)]),
        (&[("a", 1, None), ("b", 2, Some("one"))], "b", "a", &[("a", true), ("b", true)]),
        (&[("a", 2, None), ("b", 1, None)], "b", "b", &[("a", false), ("b", true)]),
        (&[("a", 1, None), ("b", 1, None)], "a", "a", &[("a", true), ("b", false)]),
        (&[("a", 2, Some("two")), ("b", 1, Some("two"))], "open", "b", &[("a", false), ("b", true)]),
        (&[("a", 2, Some("one")), ("b", 1, Some("two"))], "a", "b", &[("a", true), ("b", true)]),
    ] {
        let mut town = Town::with_ports();
        for (name, created, section) in policies {
            town.policy(name, *created, *section, &validation(&["ca"], name));
        }
        for (path, expected) in [("/one", one), ("/two", two)] {
            let expected = if expected == "open" { "open".into() } else { format!("{expected} of 1 as {expected}") };
            assert_eq!(town.terms(path), expected, "{path} with {policies:?}");
        }
        for (name, accepted) in said {
            let expected = if *accepted { GOOD } else { "!Accepted/Conflicted ResolvedRefs" };
            assert_eq!(town.policy_says(name), format!("gw: {expected}"), "{name} of {policies:?}");
        }
        // Whoever wins is gone, and the next one counts at once.
        for (name, ..) in policies {
            town.change(Change::Policy(key(name), None));
        }
        assert_eq!((town.terms("/one"), town.terms("/two")), ("open".into(), "open".into()), "{policies:?}");
    }
}

#[test]
fn a_policy_that_cannot_be_met_closes_its_backend_and_says_why() {
    let closed = "500 untrusted-backend";
    let unknown = "!Accepted/NoValidCACertificate !ResolvedRefs/InvalidCACertificateRef";
    let names = |names: Value| {
        let mut validation = validation(&["ca"], "a.org");
        validation["subjectAltNames"] = names;
        validation
    };
    let kind = |group: &str, kind: &str| json!({"caCertificateRefs": [{"group": group, "kind": kind, "name": "ca"}], "hostname": "a.org"});
    let (host, uri) = (json!({"type": "Hostname", "hostname": "b.org"}), json!({"type": "URI", "uri": "spiffe://b"}));
    for (validation, terms, said) in [
        (validation(&["ca"], "A.org"), "a.org of 1 as a.org", GOOD),
        (validation(&["ca", "other"], "a.org"), "a.org of 1+2 as a.org", GOOD),
        (names(json!([host, uri])), "a.org of 1 as b.org+spiffe://b", GOOD),
        (json!({"wellKnownCACertificates": "System", "hostname": "a.org"}), "a.org of system as a.org", GOOD),
        (json!({"wellKnownCACertificates": "x.org/y", "hostname": "a.org"}), closed, "!Accepted/Invalid ResolvedRefs"),
        (validation(&["gone"], "a.org"), closed, unknown),
        (validation(&["broken"], "a.org"), closed, unknown),
        (
            validation(&["broken", "ca"], "a.org"),
            "a.org of 1 as a.org",
            "Accepted !ResolvedRefs/InvalidCACertificateRef",
        ),
        (kind("", "Secret"), closed, "!Accepted/NoValidCACertificate !ResolvedRefs/InvalidKind"),
        (kind("x.org", "ConfigMap"), closed, "!Accepted/NoValidCACertificate !ResolvedRefs/InvalidKind"),
    ] {
        let mut town = Town::with_ports();
        town.change(Change::Authorities(key("broken"), Some(AuthoritiesFacts::Unusable("it is not PEM".into()))));
        town.policy("p", 1, Some("one"), &validation);
        assert_eq!(town.terms("/one"), terms, "{validation}");
        assert_eq!(town.terms("/two"), "open", "{validation}");
        assert_eq!(town.policy_says("p"), format!("gw: {said}"), "{validation}");
        assert_eq!(town.says("route one"), "Accepted ResolvedRefs", "{validation}");
    }
    let mut town = Town::with_ports();
    let target = json!({"group": "", "kind": "Service", "name": "s"});
    let spec = json!({"targetRefs": [target], "validation": validation(&["ca"], "a.org"), "options": {"x.org/y": "z"}});
    town.policy_of("p", 1, spec);
    assert_eq!(
        (town.terms("/one"), town.policy_says("p")),
        (closed.into(), "gw: !Accepted/Invalid ResolvedRefs".into())
    );
}

#[test]
fn a_policy_without_its_target_says_so_and_one_that_concerns_no_gateway_says_nothing() {
    let mut town = Town::with_ports();
    town.policy("p", 1, Some("three"), &validation(&["ca"], "a.org"));
    assert_eq!(town.policy_says("p"), "gw: !Accepted/TargetNotFound ResolvedRefs");
    let other = json!([{"group": "", "kind": "Service", "name": "t"}, {"group": "x", "kind": "Service", "name": "s"}]);
    town.policy_of("p", 1, json!({"targetRefs": other, "validation": validation(&["ca"], "a.org")}));
    assert_eq!((town.policy_says("p"), town.terms("/one")), ("nothing".into(), "open".into()));
}

#[test]
fn authorities_that_change_are_other_terms() {
    let mut town = Town::with_ports();
    assert!(town.policy("p", 1, None, &validation(&["ca"], "a.org")).compiler.needs().is_none());
    let first = town.terms_id();
    assert_eq!(town.authorities("other", Some(3)).terms_id(), first, "nobody refers to it");
    assert_ne!(town.authorities("ca", Some(4)).terms_id(), first);
    assert_eq!(town.terms("/two"), "a.org of 4 as a.org");
    assert_eq!(town.authorities("ca", None).terms("/one"), "500 untrusted-backend");
    assert_eq!(town.authorities("ca", Some(1)).terms_id(), first);
    town.compiler.apply(Change::Class("sluice".into(), false));
    let needs = town.compiler.needs().expect("it may have changed");
    assert_eq!(needs.config_maps.into_iter().collect::<Vec<_>>(), [key("ca")]);
}

#[test]
fn a_port_that_wants_tls_is_no_backend_without_a_policy() {
    for name in ["HTTPS", "kubernetes.io/wss"] {
        let mut town = Town::with_ports();
        town.ports(&[("one", 80, Some(name)), ("two", 81, None)]);
        assert_eq!(town.says("route one"), "Accepted !ResolvedRefs/UnsupportedProtocol");
        assert_eq!((town.terms("/one"), town.terms("/two")), ("500 invalid-backend".into(), "open".into()));
        town.policy("p", 1, Some("one"), &validation(&["ca"], "a.org"));
        assert_eq!((town.says("route one"), town.terms("/one")), (GOOD.into(), "a.org of 1 as a.org".into()));
    }
}
