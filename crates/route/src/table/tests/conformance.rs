//! What the conformance suite of the Gateway API (1.6.3) asks about matches, redirects and rewrites, with its rules and its
//! expectations. `v1`, `v2` and `v3` are its backends.

use super::*;

/// One route with these rules, of all hosts.
fn route(rules: &Value) -> Town {
    let mut town = Town::with_gateway();
    for backend in ["v1", "v2", "v3"] {
        town.service(backend, &[backend]);
    }
    town.route("r", json!({ "rules": rules }));
    town
}

/// Where the request goes: a backend or a status.
fn check(town: &mut Town, table: &[(&str, &str)]) {
    for (request, expected) in table {
        let answer = town.ask(request);
        let found = answer.strip_prefix("r -> ").unwrap_or_else(|| answer.split(' ').next().unwrap_or_default());
        assert_eq!(found, *expected, "{request}");
    }
}

fn named(name: &str, value: &str) -> Value {
    json!([{"name": name, "value": value}])
}

fn rule(matches: &Value, backend: &str) -> Value {
    json!({"matches": matches, "backendRefs": to(backend)})
}

fn prefix(value: &str, rest: &Value) -> Value {
    let mut out = path("PathPrefix", value);
    out.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
    out
}

#[test]
fn header_matching() {
    let header = |name, value| json!({"headers": named(name, value)});
    let both = json!([{"headers": [{"name": "version", "value": "two"}, {"name": "color", "value": "orange"}]}]);
    let mut town = route(&json!([
        rule(&json!([header("version", "one")]), "v1"),
        rule(&json!([header("version", "two")]), "v2"),
        rule(&both, "v1"),
        rule(&json!([header("color", "blue"), header("color", "green")]), "v1"),
        rule(&json!([header("color", "red"), header("color", "yellow")]), "v2"),
    ]));
    check(
        &mut town,
        &[
            ("GET h/ version=one", "v1"),
            ("GET h/ version=two", "v2"),
            ("GET h/ version=two color=orange", "v1"),
            ("GET h/ version=two color=blue", "v2"),
            ("GET h/ color=orange", "404"),
            ("GET h/ some-other-header=one", "404"),
            ("GET h/ color=blue", "v1"),
            ("GET h/ color=green", "v1"),
            ("GET h/ color=red", "v2"),
            ("GET h/ color=yellow", "v2"),
            ("GET h/ color=purple", "404"),
        ],
    );
}

#[test]
fn query_param_matching() {
    let query = |name, value| json!({"queryParams": named(name, value)});
    let with =
        |name, value, version: &str| json!({"queryParams": named(name, value), "headers": named("version", version)});
    let both = json!({"queryParams": [{"name": "animal", "value": "dolphin"}, {"name": "color", "value": "blue"}]});
    let mut town = route(&json!([
        rule(&json!([query("animal", "whale")]), "v1"),
        rule(&json!([query("animal", "dolphin")]), "v2"),
        rule(&json!([both, query("ANIMAL", "Whale")]), "v3"),
        rule(&json!([prefix("/path1", &query("animal", "whale"))]), "v1"),
        rule(&json!([with("animal", "whale", "one")]), "v2"),
        rule(&json!([prefix("/path2", &with("animal", "whale", "two"))]), "v3"),
        rule(
            &json!([prefix("/path3", &query("animal", "shark")), prefix("/path4", &with("animal", "kraken", "three"))]),
            "v1"
        ),
        rule(&json!([prefix("/path5", &json!({}))]), "v1"),
        rule(&json!([query("animal", "hydra")]), "v2"),
        rule(&json!([{"headers": named("version", "four")}]), "v3"),
    ]));
    check(
        &mut town,
        &[
            ("GET h/?animal=whale", "v1"),
            ("GET h/?animal=dolphin", "v2"),
            ("GET h/?animal=dolphin&color=blue", "v3"),
            ("GET h/?ANIMAL=Whale", "v3"),
            ("GET h/?animal=whale&otherparam=irrelevant", "v1"),
            ("GET h/?animal=dolphin&color=yellow", "v2"),
            ("GET h/?color=blue", "404"),
            ("GET h/?animal=dog", "404"),
            ("GET h/?animal=whaledolphin", "404"),
            ("GET h/", "404"),
            ("GET h/path1?animal=whale", "v1"),
            ("GET h/?animal=whale version=one", "v2"),
            ("GET h/path2?animal=whale version=two", "v3"),
            ("GET h/path3?animal=shark", "v1"),
            ("GET h/path4?animal=kraken version=three", "v1"),
            ("GET h/?animal=shark", "404"),
            ("GET h/path4?animal=kraken", "404"),
            ("GET h/path5?animal=hydra", "v1"),
            ("GET h/?animal=hydra version=four", "v3"),
        ],
    );
}

#[test]
fn method_matching() {
    let method = |method: &str| json!({ "method": method });
    let with = |method: &str, version: &str| json!({"method": method, "headers": named("version", version)});
    let mut town = route(&json!([
        rule(&json!([method("POST")]), "v1"),
        rule(&json!([method("GET")]), "v2"),
        rule(&json!([prefix("/path1", &method("GET"))]), "v1"),
        rule(&json!([with("PUT", "one")]), "v2"),
        rule(&json!([prefix("/path2", &with("POST", "two"))]), "v3"),
        rule(&json!([prefix("/path3", &method("PATCH")), prefix("/path4", &with("DELETE", "three"))]), "v1"),
        rule(&json!([prefix("/path5", &json!({}))]), "v1"),
        rule(&json!([method("PATCH")]), "v2"),
        rule(&json!([{"headers": named("version", "four")}]), "v3"),
    ]));
    check(
        &mut town,
        &[
            ("POST h/", "v1"),
            ("GET h/", "v2"),
            ("HEAD h/", "404"),
            ("GET h/path1", "v1"),
            ("PUT h/ version=one", "v2"),
            ("POST h/path2 version=two", "v3"),
            ("PATCH h/path3", "v1"),
            ("DELETE h/path4 version=three", "v1"),
            ("PUT h/", "404"),
            ("DELETE h/path4", "404"),
            ("PATCH h/path5", "v1"),
            ("PATCH h/ version=four", "v2"),
        ],
    );
}

#[test]
fn path_match_order_and_exact_paths() {
    let mut town = route(&json!([
        rule(&json!([path("Exact", "/match")]), "v1"),
        rule(&json!([path("Exact", "/match/exact")]), "v2"),
        rule(&json!([path("Exact", "/match/exact/one")]), "v3"),
        rule(&json!([path("PathPrefix", "/match/")]), "v3"),
        rule(&json!([path("PathPrefix", "/match/prefix/")]), "v1"),
        rule(&json!([path("PathPrefix", "/match/prefix/one")]), "v2"),
        rule(&json!([path("Exact", "/two")]), "v2"),
    ]));
    check(
        &mut town,
        &[
            ("GET h/match/exact/one", "v3"),
            ("GET h/match/exact", "v2"),
            ("GET h/match", "v1"),
            ("GET h/match/prefix/one/any", "v2"),
            ("GET h/match/prefix/any", "v1"),
            ("GET h/match/any", "v3"),
            ("GET h/two", "v2"),
            ("GET h/", "404"),
            ("GET h/two/", "404"),
            ("GET h/two/example", "404"),
            ("GET h/Two", "404"),
        ],
    );
}

#[test]
fn matching_within_and_across_routes() {
    let mut town = Town::with_gateway();
    town.service("v1", &["1"]).service("v2", &["2"]);
    town.route(
        "r",
        json!({"hostnames": ["example.com", "example.net"], "rules": [
            rule(&json!([path("PathPrefix", "/"), {"headers": named("version", "one")}]), "v1")]}),
    );
    town.route(
        "part2",
        json!({"hostnames": ["example.com"], "rules": [
            rule(&json!([path("PathPrefix", "/v2"), {"headers": named("version", "two")}]), "v2")]}),
    );
    town.check(&[
        ("GET example.com/", "r -> v1"),
        ("GET example.com/example", "r -> v1"),
        ("GET example.net/example", "r -> v1"),
        ("GET example.com/example version=one", "r -> v1"),
        ("GET example.com/v2", "part2 -> v2"),
        ("GET example.net/v2", "r -> v1"),
        ("GET example.com/v2/example", "part2 -> v2"),
        ("GET example.com/v2/", "part2 -> v2"),
        ("GET example.com/v2example", "r -> v1"),
        ("GET example.com/foo/v2/example", "r -> v1"),
        ("GET example.com/ version=two", "part2 -> v2"),
    ]);
}

#[test]
fn redirects() {
    let at = |value: &str, redirect: Value| json!({"matches": [path("PathPrefix", value)], "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]});
    let start = |value: &str| json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": value});
    let full = |value: &str| json!({"type": "ReplaceFullPath", "replaceFullPath": value});
    let mut rules = vec![
        at("/original-prefix", json!({"path": start("/replacement-prefix")})),
        at("/full", json!({"path": full("/full-path-replacement")})),
        at("/path-and-host", json!({"hostname": "example.org", "path": start("/replacement-prefix")})),
        at("/path-and-status", json!({"path": start("/replacement-prefix"), "statusCode": 301})),
        at("/full-path-and-host", json!({"hostname": "example.org", "path": full("/replacement-full")})),
        at("/port", json!({"port": 8083})),
        at("/port-and-host-and-status", json!({"port": 8083, "hostname": "example.org", "statusCode": 302})),
        at("/scheme", json!({"scheme": "https"})),
        at("/scheme-and-port", json!({"scheme": "https", "port": 8443, "hostname": "example.org"})),
        at("/well-known", json!({"scheme": "https", "port": 443, "hostname": "example.org"})),
        at("/port-80", json!({"port": 80, "hostname": "example.org"})),
    ];
    rules.extend([301, 302, 303, 307, 308].map(|code| at(&format!("/{code}"), json!({"statusCode": code}))));
    let mut town = route(&json!(rules));
    town.check(&[
        ("GET h/original-prefix/lemon", "302 http://h/replacement-prefix/lemon"),
        ("GET h/full/path/original", "302 http://h/full-path-replacement"),
        ("GET h/path-and-host", "302 http://example.org/replacement-prefix"),
        ("GET h/path-and-status", "301 http://h/replacement-prefix"),
        ("GET h/full-path-and-host", "302 http://example.org/replacement-full"),
        ("GET h/port", "302 http://h:8083/port"),
        ("GET h/port-and-host-and-status", "302 http://example.org:8083/port-and-host-and-status"),
        ("GET h/scheme", "302 https://h/scheme"),
        ("GET h/scheme-and-port", "302 https://example.org:8443/scheme-and-port"),
        ("GET h/well-known", "302 https://example.org/well-known"),
        ("GET h/port-80", "302 http://example.org/port-80"),
        ("GET h/301", "301 http://h/301"),
        ("GET h/302", "302 http://h/302"),
        ("GET h/303", "303 http://h/303"),
        ("GET h/307", "307 http://h/307"),
        ("GET h/308", "308 http://h/308"),
    ]);
}

#[test]
fn a_redirect_without_a_port_stays_on_its_listener() {
    let mut town = Town::new();
    town.gateway("gw", json!([listener("http", 9000, "")]));
    let at = |value: &str, redirect: Value| json!({"matches": [path("PathPrefix", value)], "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]});
    let rules = json!([
        at("/nil", json!({"hostname": "example.org"})),
        at("/80", json!({"hostname": "example.org", "port": 80})),
        at("/https", json!({"hostname": "example.org", "scheme": "https"})),
    ]);
    town.route("r", json!({ "rules": rules }));
    for (request, expected) in [
        ("GET h/nil", "302 http://example.org:9000/nil"),
        ("GET h/80", "302 http://example.org/80"),
        ("GET h/https", "302 https://example.org/https"),
    ] {
        assert_eq!(town.ask_at(Entrance::Port(9000), request), expected, "{request}");
    }
}

#[test]
fn rewritten_paths() {
    let at = |value: &str, edit: Value| {
        let mut rule = rule(&json!([path("PathPrefix", value)]), "v1");
        rule["filters"] = json!([{"type": "URLRewrite", "urlRewrite": {"path": edit}}]);
        rule
    };
    let start = |value: &str| json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": value});
    let full = |value: &str| json!({"type": "ReplaceFullPath", "replaceFullPath": value});
    let mut town = route(&json!([
        at("/prefix/one", start("/one")),
        at("/strip-prefix", start("/")),
        at("/full/one", full("/one")),
        at("/full/rewrite-path-and-modify-headers", full("/test")),
        at("/prefix/rewrite-path-and-modify-headers", start("/prefix")),
    ]));
    for (asked, expected) in [
        ("/prefix/one/two", "/one/two"),
        ("/strip-prefix/three", "/three"),
        ("/strip-prefix", "/"),
        ("/full/one/two", "/one"),
        ("/full/rewrite-path-and-modify-headers/test", "/test"),
        ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one"),
    ] {
        let headers: [(&str, &str); 0] = [];
        let head = RequestHead { method: "GET", host: "h", path: asked, query: None, headers: &headers, received: 0 };
        let compiled = town.last.clone().expect("a table");
        let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
            panic!("{asked} leads somewhere")
        };
        let rewrite = forward.rule.filters.rewrite.as_ref().expect("a rewrite");
        assert_eq!(rewrite.path(asked, forward.prefix).as_deref(), Some(expected), "{asked}");
    }
}
