//! One change among many routes: what the gateway's compiler does again, beside compiling everything. In CPU time of the
//! thread, so that a busy machine does not count.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sluice_route::{
    Change, Compiler, EndpointFacts, GatewayFacts, ObjectKey, PodFacts, PodRef, RolloutFacts, RouteFacts, ServiceFacts,
    ServicePort, SliceFacts,
};

use crate::report::{Pair, print};

const PAIRS: usize = 15;
const PODS_PER_SERVICE: usize = 3;
/// Services share a namespace by so many, as those of a team would.
const PER_NAMESPACE: usize = 50;
const PEER: &str = "compile-everything";

pub(crate) fn run() -> anyhow::Result<()> {
    for routes in [1000, 10_000] {
        let mut compiler = Compiler::new(80);
        world(routes).into_iter().for_each(|change| compiler.apply(change));
        compiler.compile();
        type OneChange = fn(usize) -> Change;
        let kinds: [(&str, OneChange); 4] = [
            ("route", |round| route(7, if round % 2 == 0 { "/new" } else { "/" })),
            ("endpoints", |round| slice(7, round % 2 == 1)),
            ("pod", |round| pod(7, 0, round % 2 == 0)),
            ("exposure", |round| exposure(7, 100 * round as u32 + 1)),
        ];
        for (name, change) in kinds {
            // Ours first: what a peer frees would be sorted by the allocator at our expense. The first round warms up.
            let ours: Vec<f64> =
                (0..=PAIRS).map(|round| one(&mut compiler, change(round))).collect::<anyhow::Result<_>>()?;
            let pairs: Vec<Pair> =
                ours.into_iter().skip(1).map(|ours| Pair { ours, peer: everything(routes) }).collect();
            print(&format!("table-{routes}-one-{name}"), PEER, "cpu-us", &pairs)?;
        }
    }
    Ok(())
}

fn one(compiler: &mut Compiler, change: Change) -> anyhow::Result<f64> {
    compiler.apply(change);
    let started = cpu_micros();
    let compiled = compiler.compile();
    let took = cpu_micros() - started;
    anyhow::ensure!(compiled.is_some(), "the change changed nothing");
    Ok(took)
}

fn everything(routes: usize) -> f64 {
    let mut compiler = Compiler::new(80);
    world(routes).into_iter().for_each(|change| compiler.apply(change));
    let started = cpu_micros();
    compiler.compile();
    cpu_micros() - started
}

fn cpu_micros() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

fn world(routes: usize) -> Vec<Change> {
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}}}]);
    let spec = from(json!({"gatewayClassName": "sluice", "listeners": listeners}));
    let gateway = Change::Gateway(
        ObjectKey::new("infra", "gw"),
        Some(GatewayFacts { generation: 1, address: None, created: 0, spec }),
    );
    let mut changes = vec![Change::Class("sluice".into(), true), gateway];
    for number in 0..routes {
        let ports = vec![ServicePort { name: "http".into(), port: 80, app_protocol: None }];
        changes.push(Change::Service(key(number, "shop"), Some(ServiceFacts { ports })));
        changes.extend((0..PODS_PER_SERVICE).map(|at| pod(number, at, false)));
        changes.extend([slice(number, true), route(number, "/"), exposure(number, 100)]);
    }
    changes
}

fn key(number: usize, name: &str) -> ObjectKey {
    ObjectKey::new(format!("team-{}", number / PER_NAMESPACE), format!("{name}-{number}"))
}

fn route(number: usize, path: &str) -> Change {
    let backend = json!([{"name": format!("shop-{number}"), "port": 80}]);
    let matches = json!([{"path": {"type": "PathPrefix", "value": path}}]);
    let spec = from(json!({"parentRefs": [{"name": "gw", "namespace": "infra"}],
        "hostnames": [format!("shop-{number}.example.com")],
        "rules": [{"matches": matches, "backendRefs": backend}]}));
    Change::Route(key(number, "shop"), Some(RouteFacts { generation: 1, created: number as i64, spec }))
}

fn slice(number: usize, last_ready: bool) -> Change {
    let endpoints = (0..PODS_PER_SERVICE).map(|at| EndpointFacts {
        addresses: vec![[127, 64 + at as u8, (number >> 8) as u8, number as u8].into()],
        ready: last_ready || at + 1 < PODS_PER_SERVICE,
        pod: Some(PodRef { name: format!("pod-{number}-{at}"), uid: format!("uid-{number}-{at}") }),
    });
    let ports = vec![ServicePort { name: "http".into(), port: 8080, app_protocol: None }];
    let facts = SliceFacts { service: format!("shop-{number}"), ports, endpoints: endpoints.collect() };
    Change::Slice(key(number, "shop"), Some(facts))
}

fn pod(number: usize, at: usize, terminating: bool) -> Change {
    let hash = if at == 0 { "new" } else { "old" };
    let replica_set = Some(format!("shop-{number}-{hash}"));
    let facts = PodFacts { uid: format!("uid-{number}-{at}"), hash: hash.into(), replica_set, terminating };
    let key = ObjectKey::new(key(number, "").namespace, format!("pod-{number}-{at}"));
    Change::Pod(key, Some(facts))
}

fn exposure(number: usize, weight: u32) -> Change {
    let exposure = from(json!({"stable": "old", "candidate": "new", "candidateWeight": weight}));
    let facts = RolloutFacts { target: format!("shop-{number}"), exposure: Some(exposure) };
    Change::Rollout(key(number, "shop"), Some(facts))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("written by hand, and right")
}
