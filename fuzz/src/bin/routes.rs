//! Any object of a neighbour, and any request: nothing panics, the neighbour's object harms no route but its own, and no request gets
//! to a route of another host than its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use sluice_route::{
    Change, Compiler, Decision, Draws, EndpointFacts, Entrance, GatewayFacts, ObjectKey, RequestHead, RouteFacts,
    ServiceFacts, ServicePort, SliceFacts,
};

fn route(spec: Value) -> Option<RouteFacts> {
    Some(RouteFacts { generation: 1, created: 1, spec: serde_json::from_value(spec).ok()? })
}

fn town() -> Compiler {
    let mut compiler = Compiler::new(80);
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]);
    let spec = serde_json::from_value(json!({"gatewayClassName": "sluice", "listeners": listeners})).expect("a Gateway");
    let gateway = GatewayFacts { generation: 1, created: 1, address: None, spec };
    let port = || ServicePort { name: "http".into(), port: 80, ..ServicePort::default() };
    let shop = ObjectKey::new("default", "shop");
    let endpoints = vec![EndpointFacts { addresses: vec!["10.0.0.1".parse().expect("an address")], ready: true, pod: None }];
    let slice = SliceFacts { service: "shop".into(), ports: vec![port()], endpoints };
    let rules = json!([
        {"matches": [{"path": {"type": "Exact", "value": "/exact"}}], "backendRefs": [{"name": "shop", "port": 80}]},
        {"matches": [{"headers": [{"name": "x", "value": "1"}], "queryParams": [{"name": "q", "value": "a b"}]}],
            "backendRefs": [{"name": "shop", "port": 80, "weight": 3}, {"name": "gone", "port": 80}]},
        {"backendRefs": [{"name": "shop", "port": 80}], "sessionPersistence": {"sessionName": "cart"}},
    ]);
    for change in [
        Change::Class("sluice".into(), true),
        Change::Gateway(ObjectKey::new("default", "gw"), Some(gateway)),
        Change::Service(shop.clone(), Some(ServiceFacts { ports: vec![port()] })),
        Change::Slice(shop.clone(), Some(slice)),
        Change::Route(shop, route(json!({"parentRefs": [{"name": "gw"}], "hostnames": ["shop.example"], "rules": rules}))),
    ] {
        compiler.apply(change);
    }
    compiler
}

// Lines: method, host, path, query, then headers; what remains is the neighbour's route.
fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (request, object) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = request.lines();
    let mut line = || lines.next().unwrap_or_default();
    let (method, host, path, query) = (line(), line().to_ascii_lowercase(), format!("/{}", line()), line());
    let headers: Vec<(String, &str)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let head = RequestHead { method, host: &host, path: &path, query: Some(query), headers: &headers, received: 1 };

    let mut compiler = town();
    let before = compiler.compile().expect("something to compile").table;
    let mut neighbour = serde_json::from_str::<Value>(object).unwrap_or_default();
    if let Some(spec) = neighbour.as_object_mut() {
        spec.entry("parentRefs").or_insert(json!([{"name": "gw", "namespace": "default"}]));
        // A host of its own: what two routes say of one host is for precedence to settle.
        spec.insert("hostnames".to_owned(), json!(["neighbour.example"]));
    }
    compiler.apply(Change::Route(ObjectKey::new("other", "bad"), route(neighbour)));
    let after = compiler.compile().map_or_else(|| before.clone(), |compiled| compiled.table);

    let mut draws = Draws::new(0, 1);
    let (was, is) = (before.find(Entrance::Default, &head, &mut draws), after.find(Entrance::Default, &head, &mut draws));
    if let Decision::Forward(forward) = &is {
        let of_shop = forward.route.to_string().ends_with("default/shop");
        assert_eq!(of_shop, host == "shop.example", "{host} is sent to {:?}", forward.route);
    }
    if host == "shop.example" && path == "/exact" {
        assert!(matches!((was, is), (Decision::Forward(_), Decision::Forward(_))), "a neighbour took the route away");
    }
});
