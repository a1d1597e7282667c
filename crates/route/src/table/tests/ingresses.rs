//! Ingresses: hosts, paths, canaries and annotations, alone and beside HTTPRoutes.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Town, key, listener};
use crate::facts::{Change, Entrance, IngressFacts, SecretFacts, ServiceFacts, ServicePort};
use crate::head::{Headers, RequestHead};
use crate::tls::CertificateId;
use crate::{Decision, Transport};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";
const TLS: Entrance = Entrance::Port(443);

impl Town {
    fn with_class() -> Self {
        let mut town = Self::new();
        town.change(Change::IngressClass("sluice".into(), true));
        for service in ["shop", "cart", "beta", "rest"] {
            town.service(service, &[&service[..1]]);
        }
        town
    }

    /// Later ones are younger. Annotations as `name=value` lines without the prefix.
    fn ingress(&mut self, name: &str, annotations: &str, mut spec: Value) -> &mut Self {
        if spec.get("ingressClassName").is_none() {
            spec["ingressClassName"] = json!("sluice");
        }
        self.created += 1;
        let pairs = annotations.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once('=').expect("a name and a value");
            let name = if name.contains('/') { name.to_owned() } else { format!("{PREFIX}{name}") };
            (name, value.to_owned())
        });
        let facts = IngressFacts {
            generation: 1,
            created: self.created,
            annotations: pairs.collect(),
            spec: serde_json::from_value(spec).expect("an Ingress spec"),
        };
        self.change(Change::Ingress(key(name), Some(facts)))
    }

    /// What is said of it.
    fn said(&self, name: &str) -> String {
        let Some(compiled) = &self.last else { return "no table".into() };
        let Some(report) = compiled.report.ingresses.get(&key(name)) else { return "not ours".into() };
        let said = report.complaints.iter().map(|it| format!("{}: {}", it.reason, it.message.replace(PREFIX, "")));
        said.collect::<Vec<_>>().join("\n")
    }

    /// As `ask`, by TLS or from an address.
    fn ask_as(&mut self, entrance: Entrance, url: &str, client: &str, is_secure: bool) -> String {
        let (host, path) = url.find('/').map_or((url, "/"), |at| url.split_at(at));
        let headers = From { address: client.parse().expect("an address"), is_secure };
        let head = RequestHead { method: "GET", host, path, query: None, headers: &headers, received: 0 };
        let compiled = self.last.as_ref().expect("a table");
        match compiled.table.find(entrance, &head, &mut self.draws) {
            Decision::Forward(forward) => forward.route.key.name.clone(),
            Decision::Redirect { redirect, prefix } => {
                let scheme = if is_secure { "https" } else { "http" };
                format!("{} {}", redirect.status, redirect.location(&head, scheme, None, prefix))
            }
            Decision::Refuse(refusal) => format!("{} {}", refusal.status(), refusal.reason()),
            Decision::Preflight(_) => "preflight".into(),
        }
    }
}

struct From {
    address: IpAddr,
    is_secure: bool,
}

impl Headers for From {
    fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.address)
    }

    fn is_secure(&self) -> bool {
        self.is_secure
    }
}

fn to(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

fn path(kind: &str, path: &str, service: &str) -> Value {
    json!({"pathType": kind, "path": path, "backend": to(service)})
}

fn prefix(text: &str, service: &str) -> Value {
    path("Prefix", text, service)
}

fn rule(host: &str, paths: &[Value]) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

fn rules(rules: &[Value]) -> Value {
    json!({"rules": rules})
}

fn one(host: &str, path: &str, service: &str) -> Value {
    rules(&[rule(host, &[prefix(path, service)])])
}

/// What the backend is asked for.
fn rewritten(town: &mut Town, url: &str) -> String {
    let (host, path) = url.split_at(url.find('/').expect("a path"));
    let none: [(&str, &str); 0] = [];
    let head = RequestHead { method: "GET", host, path, query: None, headers: &none, received: 0 };
    let compiled = town.last.as_ref().expect("a table");
    let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
        return "not forwarded".into();
    };
    let rewrite = forward.rule.filters.rewrite.as_ref().expect("a rewrite");
    let host = rewrite.hostname.clone().unwrap_or_default();
    format!("{host}{}", rewrite.path(path, forward.prefix).unwrap_or_else(|| path.to_owned()))
}

#[test]
fn paths_match_by_segment_and_the_longest_wins() {
    let mut town = Town::with_class();
    let paths = [
        prefix("/", "rest"),
        prefix("/cart/", "cart"),
        path("Exact", "/cart/x", "beta"),
        path("ImplementationSpecific", "/shop", "shop"),
    ];
    town.ingress("web", "", rules(&[rule("shop.example", &paths)]));
    town.check(&[
        ("GET shop.example/", "web -> rest"),
        ("GET shop.example/cart", "web -> cart"),
        ("GET shop.example/cart/", "web -> cart"),
        ("GET shop.example/cart/x", "web -> beta"),
        ("GET shop.example/cart/x/y", "web -> cart"),
        ("GET shop.example/carts", "web -> rest"),
        ("GET shop.example/shop/a", "web -> shop"),
        ("GET other.example/", "404 no-route"),
    ]);
    assert_eq!(town.said("web"), "");
}

#[test]
fn a_star_stands_for_one_label() {
    let mut town = Town::with_class();
    let wild = rule("*.example", &[prefix("/", "shop")]);
    town.ingress("web", "", rules(&[wild, rule("cart.example", &[prefix("/", "cart")])]));
    town.check(&[
        ("GET a.example/", "web -> shop"),
        ("GET cart.example/", "web -> cart"),
        ("GET b.a.example/", "404 no-route"),
        ("GET example/", "404 no-route"),
    ]);
}

#[test]
fn only_ingresses_of_our_classes_are_served() {
    let mut town = Town::with_class();
    let with_class = |class: Value| {
        let mut spec = one("a.example", "/", "shop");
        spec["ingressClassName"] = class;
        spec
    };
    for (class, annotations, expected) in [
        (json!("sluice"), "", "a -> shop"),
        (json!("nginx"), "", "404 no-route"),
        (Value::Null, "", "404 no-route"),
        (Value::Null, "kubernetes.io/ingress.class=sluice", "a -> shop"),
        (Value::Null, "kubernetes.io/ingress.class=nginx", "404 no-route"),
        (json!("nginx"), "kubernetes.io/ingress.class=sluice", "404 no-route"),
    ] {
        town.ingress("a", annotations, with_class(class.clone()));
        assert_eq!(town.ask("GET a.example/"), expected, "{class} {annotations}");
    }
    town.ingress("a", "", with_class(json!("sluice"))).change(Change::IngressClass("sluice".into(), false));
    assert_eq!(town.ask("GET a.example/"), "404 no-route");
    assert_eq!(town.said("a"), "not ours");
}

#[test]
fn default_backends_get_what_nobody_else_wants() {
    let mut town = Town::with_class();
    let mut spec = one("a.example", "/cart", "cart");
    spec["defaultBackend"] = to("rest");
    town.ingress("old", "", spec).ingress("young", "", one("a.example", "/", "shop"));
    town.check(&[
        ("GET a.example/cart", "old -> cart"),
        ("GET a.example/x", "young -> shop"),
        ("GET b.example/x", "old -> rest"),
    ]);
    town.change(Change::Ingress(key("young"), None));
    assert_eq!(town.ask("GET a.example/x"), "old -> rest");
}

#[test]
fn ports_have_numbers_or_names_and_what_is_wrong_is_said() {
    let mut town = Town::with_class();
    let backend = |name: &str, port: Value| json!({"pathType": "Prefix", "path": format!("/{name}"), "backend": {"service": {"name": "shop", "port": port}}});
    let nobody = json!({"pathType": "Prefix", "path": "/none", "backend": to("nobody")});
    let resource = json!({"pathType": "Prefix", "path": "/bucket", "backend": {"resource": {"apiGroup": "x", "kind": "Bucket", "name": "b"}}});
    let paths = [
        backend("number", json!({"number": 80})),
        backend("name", json!({"name": "http"})),
        backend("wrong", json!({"number": 81})),
        backend("lost", json!({"name": "web"})),
        nobody,
        resource,
    ];
    town.ingress("web", "", rules(&[rule("a", &paths)]));
    town.check(&[
        ("GET a/number", "web -> shop"),
        ("GET a/name", "web -> shop"),
        ("GET a/wrong", "500 invalid-backend"),
        ("GET a/none", "500 invalid-backend"),
        ("GET a/bucket", "500 invalid-backend"),
    ]);
    let expected = "BackendNotFound: path `/lost` of host `a`: Service `default/shop` has no port `web`\n\
        BackendNotFound: path `/none` of host `a`: Service `default/nobody` does not exist\n\
        BackendNotFound: path `/wrong` of host `a`: Service `default/shop` has no port `81`\n\
        InvalidKind: path `/bucket` of host `a`: backend Bucket `b` is not a Service";
    assert_eq!(town.said("web"), expected);
    town.service("nobody", &["n"]);
    assert_eq!(town.ask("GET a/none"), "web -> nobody");
}

#[test]
fn several_ingresses_of_one_host_are_merged_by_age() {
    let mut town = Town::with_class();
    town.ingress("old", "", one("a", "/", "shop")).ingress(
        "young",
        "",
        rules(&[rule("a", &[prefix("/", "cart"), prefix("/cart", "cart")])]),
    );
    town.check(&[("GET a/", "old -> shop"), ("GET a/cart", "young -> cart")]);
    assert_eq!(
        town.said("young"),
        "PathTaken: path `/` of host `a` is served by Ingress `default/old`, which is older"
    );
    assert_eq!(town.said("old"), "");
}

#[test]
fn an_httproute_goes_first_where_both_say_the_same() {
    let mut town = Town::with_class();
    town.ingress("web", "", rules(&[rule("a", &[prefix("/", "shop"), prefix("/cart/x", "cart")])]));
    town.gateway("gw", json!([listener("http", 80, "")]));
    let backend = json!([{"name": "beta", "port": 80}]);
    let to_path = |path: &str| json!([{"path": {"type": "PathPrefix", "value": path}}]);
    town.route("r", json!({"hostnames": ["a"], "rules": [{"matches": to_path("/"), "backendRefs": backend}, {"matches": to_path("/cart"), "backendRefs": backend}]}));
    town.check(&[("GET a/", "r -> beta"), ("GET a/cart", "r -> beta"), ("GET a/cart/x/y", "web -> cart")]);
    town.route("r", json!({"hostnames": ["*.b"], "rules": [{"backendRefs": backend}]}));
    town.ingress("exact", "", one("a.b", "/", "shop"));
    town.check(&[("GET a.b/", "exact -> shop"), ("GET c.b/", "r -> beta")]);
}

#[test]
fn weights_of_rollouts_hold_for_ingresses() {
    let mut town = Town::with_class();
    town.service("shop", &["one:v1", "two:v2"]);
    town.exposure("shop", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 2500}));
    town.ingress("web", "", one("a", "/", "shop"));
    let asked: Vec<String> = (0..100).map(|_| town.ask("GET a/")).collect();
    assert_eq!(asked.iter().filter(|answer| *answer == "web -> shop v2").count(), 25);
}

#[test]
fn a_canary_shares_the_paths_of_its_main_ingress() {
    let mut town = Town::with_class();
    town.ingress("web", "", rules(&[rule("a", &[prefix("/", "shop"), prefix("/cart", "cart")])]));
    town.ingress(
        "next",
        "canary=true\ncanary-weight=20\ncanary-by-header=x-beta\ncanary-by-cookie=beta",
        one("a", "/", "beta"),
    );
    let asked: Vec<String> = (0..50).map(|_| town.ask("GET a/")).collect();
    assert_eq!(asked.iter().filter(|answer| *answer == "web -> beta").count(), 10);
    for _ in 0..3 {
        town.check(&[
            ("GET a/cart", "web -> cart"),
            ("GET a/ x-beta=always", "web -> beta"),
            ("GET a/ x-beta=never", "web -> shop"),
            ("GET a/ x-beta=never cookie=beta=always", "web -> shop"),
            ("GET a/ x-beta=else cookie=beta=always", "web -> beta"),
            ("GET a/ cookie=beta=never", "web -> shop"),
        ]);
    }
    assert_eq!((town.said("web"), town.said("next")), (String::new(), String::new()));
}

#[test]
fn a_canary_without_anybody_ready_hurts_nobody() {
    let mut town = Town::with_class();
    town.ingress("web", "", one("a", "/", "shop"));
    town.ingress("next", "canary=true\ncanary-weight=100", one("a", "/", "beta"));
    assert_eq!(town.ask("GET a/"), "web -> beta");
    town.endpoints("beta", &[]);
    assert_eq!(town.ask("GET a/"), "web -> shop");
    town.ingress("next", "canary=true\ncanary-weight=100", one("a", "/", "nowhere"));
    assert_eq!(town.ask("GET a/"), "web -> shop");
    assert_eq!(town.said("web"), "BackendNotFound: path `/` of host `a`: Service `default/nowhere` does not exist");
    town.endpoints("beta", &["b"]).ingress("next", "canary=true\ncanary-weight=100", one("a", "/", "beta"));
    assert_eq!(town.ask("GET a/"), "web -> beta");
    town.change(Change::Ingress(key("next"), None));
    assert_eq!(town.ask("GET a/"), "web -> shop");
}

#[test]
fn a_canary_without_a_main_ingress_of_its_namespace_is_none() {
    let mut town = Town::with_class();
    town.ingress("web", "", one("a", "/", "shop"));
    town.ingress("other/next", "canary=true\ncanary-weight=100", one("a", "/", "beta"));
    town.ingress("lost", "canary=true\ncanary-weight=100", one("a", "/lost", "beta"));
    town.ingress("first", "canary=true", one("a", "/", "beta"));
    town.ingress("second", "canary=true\ncanary-weight=100", one("a", "/", "beta"));
    town.check(&[("GET a/", "web -> shop"), ("GET a/lost", "web -> shop")]);
    assert_eq!(town.said("other/next"), "NoMainIngress: no other Ingress of `other` serves path `/` of host `a`");
    assert_eq!(town.said("lost"), "NoMainIngress: no other Ingress of `default` serves path `/lost` of host `a`");
    assert_eq!(town.said("second"), "PathTaken: path `/` of host `a` has canary `default/first` already");
}

#[test]
fn expressions_are_as_strong_as_they_are_long() {
    let mut town = Town::with_class();
    let paths = [path("ImplementationSpecific", "/v[0-9]+/", "beta"), path("Exact", "/v1/", "cart")];
    town.ingress("web", "use-regex=true", rules(&[rule("a", &paths)]));
    town.ingress("plain", "", rules(&[rule("a", &[prefix("/", "rest"), prefix("/v2/orders/all", "shop")])]));
    town.check(&[
        ("GET a/v12/x", "web -> beta"),
        ("GET a/V12/x", "web -> beta"),
        ("GET a/v1/", "web -> cart"),
        ("GET a/v2/orders/all", "plain -> shop"),
        ("GET a/v2/orders", "web -> beta"),
        ("GET a/x/v2/", "plain -> rest"),
    ]);
}

#[test]
fn a_path_that_is_no_expression_takes_nothing_else_along() {
    let mut town = Town::with_class();
    let paths = [path("ImplementationSpecific", "/(", "beta"), path("ImplementationSpecific", "/good", "shop")];
    town.ingress("web", "use-regex=true", rules(&[rule("a", &paths)]));
    town.check(&[("GET a/good/x", "web -> shop"), ("GET a/(", "404 no-route")]);
    assert!(
        town.said("web").starts_with("PathInvalid: path `/(` of host `a`: `/(` is not a regular expression"),
        "{}",
        town.said("web")
    );
}

#[test]
fn targets_are_rewritten_with_what_was_captured() {
    let mut town = Town::with_class();
    let paths = [path("ImplementationSpecific", "/something(/|$)(.*)", "shop"), path("Exact", "/one", "cart")];
    town.ingress("web", "rewrite-target=/$2\nupstream-vhost=inner", rules(&[rule("a", &paths[..1])]));
    town.ingress("whole", "rewrite-target=/", rules(&[rule("b", &[prefix("/app", "shop"), paths[1].clone()])]));
    for (url, expected) in
        [("a/something/new", "inner/new"), ("a/something", "inner/"), ("b/app/x", "/"), ("b/one", "/")]
    {
        assert_eq!(rewritten(&mut town, url), expected, "{url}");
    }
    town.ingress("web", "rewrite-target=/$3", rules(&[rule("a", &paths[..1])]));
    assert_eq!(town.ask("GET a/something/x"), "404 no-route");
    assert!(
        town.said("web").contains("`rewrite-target` names $3, but the path has no such group"),
        "{}",
        town.said("web")
    );
}

#[test]
fn redirects_go_where_they_say() {
    let mut town = Town::with_class();
    town.ingress("away", "permanent-redirect=https://www.example.com", one("a", "/", "shop"));
    town.ingress("kept", "temporal-redirect=https://new.example$request_uri", one("b", "/", "shop"));
    town.ingress("app", "app-root=/start", one("c", "/", "shop"));
    town.ingress(
        "www",
        "from-to-www-redirect=true",
        rules(&[rule("d.example", &[prefix("/", "shop")]), rule("www.e.example", &[prefix("/", "shop")])]),
    );
    town.check(&[
        ("GET a/x", "301 https://www.example.com"),
        ("GET b/x?q=1", "302 https://new.example/x?q=1"),
        ("GET c/", "302 http://c/start"),
        ("GET c/x", "app -> shop"),
        ("GET www.d.example/x", "308 http://d.example/x"),
        ("GET e.example/x?a", "308 http://www.e.example/x?a"),
    ]);
    town.ingress("own", "", one("www.d.example", "/", "cart"));
    assert_eq!(town.ask("GET www.d.example/x"), "own -> cart");
}

#[test]
fn sources_are_held_to_their_addresses() {
    let mut town = Town::with_class();
    town.ingress("web", "whitelist-source-range=10.0.0.0/8", one("a", "/", "shop"));
    town.ingress("shut", "whitelist-source-range=10.0.0.0/8,nonsense", one("b", "/", "shop"));
    town.ingress("auth", "auth-url=http://auth", one("c", "/", "shop"));
    let mut ask = |host: &str, client: &str| town.ask_as(Entrance::Default, host, client, false);
    assert_eq!(ask("a", "10.1.2.3"), "web");
    assert_eq!(ask("a", "192.0.2.1"), "403 source-not-allowed");
    assert_eq!(ask("b", "10.1.2.3"), "500 unusable-rule");
    assert_eq!(ask("c", "10.1.2.3"), "500 unusable-rule");
    assert!(
        town.said("shut")
            .contains("NotServed: every request is refused: annotation `whitelist-source-range`: `nonsense`"),
        "{}",
        town.said("shut")
    );
    assert!(
        town.said("auth").contains("NotServed: every request is refused: annotation `auth-url`"),
        "{}",
        town.said("auth")
    );
}

#[test]
fn aliases_are_hosts_of_the_same_paths() {
    let mut town = Town::with_class();
    town.ingress("web", "server-alias=b, *.c", one("a", "/", "shop"));
    town.check(&[
        ("GET a/", "web -> shop"),
        ("GET b/", "web -> shop"),
        ("GET x.c/", "web -> shop"),
        ("GET d/", "404 no-route"),
    ]);
}

fn tls(hosts: &[&str], secret: &str, mut spec: Value) -> Value {
    spec["tls"] = json!([{"hosts": hosts, "secretName": secret}]);
    spec
}

#[test]
fn hosts_with_a_certificate_are_served_by_tls_and_sent_there() {
    let mut town = Town::with_class();
    let spec = rules(&[rule("a.example", &[prefix("/", "shop")]), rule("b.example", &[prefix("/", "shop")])]);
    town.change(Change::Secret(key("cert"), Some(SecretFacts::Certificate(CertificateId(7)))));
    town.ingress("web", "", tls(&["a.example"], "cert", spec));
    town.ingress("plain", "ssl-redirect=false", one("a.example", "/open", "cart"));
    let compiled = town.last.clone().expect("a table");
    assert!(compiled.report.entrances.contains(&TLS) && compiled.table.speaks_tls(TLS));
    let listener = |name: &str| compiled.table.listener(TLS, Some(name)).map(|it| it.certificates.clone());
    assert_eq!((listener("a.example"), listener("b.example")), (Some(vec![CertificateId(7)]), None));
    let client = "192.0.2.1";
    for (entrance, url, is_secure, expected) in [
        (Entrance::Default, "a.example/x", false, "308 https://a.example/x"),
        (Entrance::Default, "a.example/x", true, "web"),
        (Entrance::Default, "a.example/open", false, "plain"),
        (Entrance::Default, "b.example/x", false, "web"),
        (TLS, "a.example/x", true, "web"),
        (TLS, "a.example/open", true, "plain"),
        (TLS, "b.example/x", true, "404 no-route"),
    ] {
        assert_eq!(town.ask_as(entrance, url, client, is_secure), expected, "{url} {is_secure}");
    }
    let transport = Transport::Tls { server_name: Some("a.example".into()), is_verified: false };
    assert!(!compiled.table.misdirected(TLS, &transport, "a.example"));
    assert_eq!(town.said("web"), "");
}

#[test]
fn a_certificate_that_is_missing_is_said_and_nobody_is_sent_there() {
    let mut town = Town::with_class();
    town.ingress("web", "", tls(&["a"], "cert", one("a", "/", "shop")));
    assert_eq!(town.compiler.needs(), None, "compiled already");
    assert_eq!(town.said("web"), "NoCertificate: tls[0]: no Secret `default/cert` of type kubernetes.io/tls exists");
    assert_eq!(town.ask("GET a/"), "web -> shop");
    town.change(Change::Secret(key("cert"), Some(SecretFacts::Certificate(CertificateId(1)))));
    assert_eq!(town.ask("GET a/"), "308 https://a/");
    town.compiler.set_closed([(TLS, "cannot listen".to_owned())].into());
    town.last = town.compiler.compile();
    assert_eq!(town.ask("GET a/"), "web -> shop");
    assert_eq!(town.said("web"), "NoCertificate: tls[0]: TLS is not served: cannot listen");
}

#[test]
fn tls_has_an_address_of_its_own_where_there_is_one() {
    let address = "127.0.0.1:8443".parse().expect("an address");
    let mut town = Town::with_class();
    town.compiler = std::mem::replace(&mut town.compiler, crate::Compiler::new(0)).secure_at(Some(address));
    town.change(Change::Secret(key("cert"), Some(SecretFacts::Certificate(CertificateId(1)))));
    town.ingress("web", "", tls(&["a"], "cert", one("a", "/", "shop")));
    assert_eq!(town.ask("GET a/x"), "308 https://a:8443/x");
    assert_eq!(town.ask_as(Entrance::Own(address), "a/x", "192.0.2.1", true), "web");
    // Listeners of Gateways with port 443 are served there, too.
    let mut https = listener("https", 443, "b");
    https["protocol"] = json!("HTTPS");
    https["tls"] = json!({"certificateRefs": [{"name": "cert"}]});
    town.gateway("gw", json!([https]));
    let compiled = town.last.clone().expect("a table");
    assert!(compiled.table.listener(Entrance::Own(address), Some("b")).is_some());
    assert!(compiled.table.listener(Entrance::Own(address), Some("a")).is_some());
}

#[test]
fn an_unchanged_ingress_is_shared_between_generations() {
    let mut town = Town::with_class();
    town.ingress("web", "", one("a", "/", "shop")).ingress("other", "", one("b", "/", "shop"));
    let split_of = |town: &Town, host: &str| {
        let compiled = town.last.as_ref().expect("a table");
        let hosts = &compiled.table.entrances[&Entrance::Default];
        std::sync::Arc::as_ptr(hosts.matching(host).next().expect("a host"))
    };
    let before = (split_of(&town, "a"), split_of(&town, "b"));
    town.ingress("other", "upstream-vhost=x", one("b", "/", "shop"));
    let ports = vec![ServicePort { name: "http".into(), port: 80, ..Default::default() }];
    town.change(Change::Service(key("new"), Some(ServiceFacts { ports })));
    let after = (split_of(&town, "a"), split_of(&town, "b"));
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1);
}

#[test]
fn one_bad_ingress_takes_nobody_along() {
    let mut town = Town::with_class();
    town.ingress("good", "", one("a", "/", "shop"));
    town.ingress(
        "evil/bad",
        "use-regex=true\ncanary=perhaps\nrewrite-target=/$9",
        rules(&[rule("a", &[path("ImplementationSpecific", "/(((", "shop"), prefix("/x", "shop")])]),
    );
    town.ingress("evil/late", "", one("a", "/", "shop"));
    town.check(&[("GET a/", "good -> shop"), ("GET a/x", "good -> shop")]);
    assert!(town.said("evil/bad").contains("AnnotationInvalid: annotation `canary`"));
    assert_eq!(town.said("good"), "");
}
