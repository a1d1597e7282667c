//! From objects to answers, acknowledgements and statuses.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sluice_gateway::{Gateway, GatewayOptions, StartError};

use crate::world::{World, answer, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_served_acknowledged_and_reported() {
    let world = World::start().await;
    assert_eq!(world.get("/", "").await.0, 404);
    world.shop().await;
    world.wait_for_answer((503, "no-endpoints")).await;
    let uid = world.pod("one", "v1").await;
    world.wait_for_answer((200, "one")).await;

    let serving = "Accepted=True/Accepted Programmed=True/Programmed";
    world
        .wait("the Gateway is programmed", async || {
            let status = world.status("Gateway", "gw").await;
            World::words(&status["conditions"]) == serving && status["listeners"][0]["attachedRoutes"] == json!(1)
        })
        .await;
    let status = world.status("Gateway", "gw").await;
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "127.0.0.1"}]));
    assert_eq!(
        World::words(&status["listeners"][0]["conditions"]),
        "Accepted=True/Accepted Conflicted=False/NoConflicts Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs"
    );
    world
        .wait("the route's references are resolved", async || {
            let status = world.status("HTTPRoute", "shop").await;
            World::words(&status["parents"][0]["conditions"]) == "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"
        })
        .await;
    world
        .wait("the class is accepted", async || {
            World::words(&world.status("GatewayClass", "sluice").await["conditions"]) == "Accepted=True/Accepted"
        })
        .await;

    // A deleted pod is out of service once its deletion is acknowledged, although its EndpointSlice still lists it.
    let revision = world.delete_pod("one").await;
    world.wait("the deletion is acknowledged", async || world.acknowledged("pods").await >= revision).await;
    assert_eq!(world.get("/", "").await.0, 503);
    assert_eq!(world.lease("draining").await, Some(json!([])), "{uid} had nothing in flight");
    for resource in ["services", "endpointslices", "httproutes", "gateways"] {
        assert!(world.acknowledged(resource).await > 0, "{resource}");
    }

    let counts = world.gateway.counters().of("default", "v1");
    assert!(counts.requests >= 1 && counts.errors_5xx == 0, "{counts:?}");

    let client = world.client.clone();
    world.gateway.shutdown().await;
    let leases = kube::Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(client, "sluice-system");
    assert!(leases.get_opt("gateway-local").await.expect("readable").is_none(), "nobody waits for a stopped gateway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exposure_moves_traffic_once_it_is_acknowledged() {
    let world = World::start().await;
    world.shop().await;
    world.pod("stable", "v1").await;
    world.pod("candidate", "v2").await;
    let rollout = world
        .apply(json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"target": {"kind": "Deployment", "name": "shop"}, "strategy": "Canary"}}))
        .await;
    assert!(rollout.metadata.uid.is_some());
    let pinned = json!([{"headers": [{"name": "x-preview", "value": "1"}]}]);
    for (weight, expected) in [(0, 0), (1000, 10), (10_000, 100)] {
        let exposure = json!({"stable": "v1", "candidate": "v2", "candidateWeight": weight, "match": pinned});
        let revision = expose(&world, exposure).await;
        world.wait("the exposure is acknowledged", async || world.acknowledged("rollouts").await >= revision).await;
        let mut candidate = 0;
        for _ in 0..100 {
            let (status, body) = world.get("/", "").await;
            assert_eq!(status, 200);
            candidate += u32::from(body == "candidate");
        }
        // Exact to less than two on each of two workers.
        assert!(u32::abs_diff(candidate, expected) < 4, "{candidate} of 100 at {weight}");
        assert_eq!(world.get("/", "x-preview: 1\r\n").await, (200, "candidate".into()));
    }
    world.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_split_keeps_everybody_where_they_are_while_it_rises() {
    const USERS: usize = 200;
    let world = World::start().await;
    world.shop().await;
    world.pod("stable", "v1").await;
    world.pod("candidate", "v2").await;
    world
        .apply(json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"target": {"kind": "Deployment", "name": "shop"}, "strategy": "Canary"}}))
        .await;
    let split = async |weight: usize, by: &str| {
        let sticky = json!({"by": by});
        let exposure = json!({"stable": "v1", "candidate": "v2", "candidateWeight": weight, "sticky": sticky});
        let revision = expose(&world, exposure).await;
        world.wait("the exposure is acknowledged", async || world.acknowledged("rollouts").await >= revision).await;
    };
    let mut before = Vec::new();
    for weight in [1000, 4000, 8000] {
        split(weight, "header:x-user").await;
        let mut candidates = Vec::new();
        for user in 0..USERS {
            let answers = [
                world.get("/", &format!("x-user: u{user}\r\n")).await,
                world.get("/", &format!("x-user: u{user}\r\n")).await,
            ];
            assert_eq!(answers[0], answers[1], "u{user} at {weight}");
            candidates.extend((answers[0].1 == "candidate").then_some(user));
        }
        assert!(before.iter().all(|user| candidates.contains(user)), "{before:?} are in {candidates:?}");
        // Five times what chance lets it be off.
        assert!(candidates.len().abs_diff(USERS * weight / 10_000) < 35, "{} at {weight}", candidates.len());
        before = candidates;
    }
    split(5000, "cookie:visitor").await;
    let mut versions = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let (_, head, first) = answer(world.gateway.address(), "/", "").await;
        let line = head.lines().find(|line| line.starts_with("set-cookie: visitor=")).expect("a cookie");
        assert!(line.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{line}");
        let cookie = line.trim_start_matches("set-cookie: ").split(';').next().expect("a pair");
        for _ in 0..3 {
            let (_, head, again) = answer(world.gateway.address(), "/", &format!("cookie: a=b; {cookie}\r\n")).await;
            assert!(again == first && !head.contains("set-cookie"), "{again} after {first}: {head}");
        }
        versions.insert(first);
    }
    assert_eq!(versions.len(), 2, "both versions have visitors");
    world.gateway.shutdown().await;
}

async fn expose(world: &World, exposure: Value) -> u64 {
    let resource =
        kube::discovery::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("sluice.dev", "v1alpha1", "Rollout"));
    let rollouts: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(world.client.clone(), "default", &resource);
    let patch = kube::api::Patch::Merge(json!({"status": {"exposure": exposure}}));
    let patched = rollouts.patch_status("shop", &kube::api::PatchParams::default(), &patch).await.expect("patched");
    patched.metadata.resource_version.and_then(|revision| revision.parse().ok()).expect("a revision")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_open_and_close_with_their_gateways() {
    let world = World::start().await;
    world.shop().await;
    world.pod("one", "v1").await;
    world.wait_for_answer((200, "one")).await;

    // Ports that were free, and one that is taken, a moment ago.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = |listener: &std::net::TcpListener| listener.local_addr().expect("bound").port();
    let (taken_port, free_port) = (port(&taken), port(&free));
    drop(free);
    let listener = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "HTTP"});
    let both = json!([listener("http", 80), listener("free", free_port), listener("taken", taken_port)]);
    world.gateway("gw", both).await;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port));
    world
        .wait("the second listener is programmed", async || {
            let status = world.status("Gateway", "gw").await;
            World::words(&status["listeners"][1]["conditions"]).contains("Programmed=True")
        })
        .await;
    assert_eq!(get(address, "/", "").await, (200, "one".into()));
    let conditions = World::words(&world.status("Gateway", "gw").await["listeners"][2]["conditions"]);
    assert!(conditions.contains("Programmed=False/PortUnavailable"), "{conditions}");

    world.gateway("gw", json!([listener("http", 80)])).await;
    world.wait("the second listener is closed", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    assert_eq!(world.get("/", "").await, (200, "one".into()));

    // Somebody else's gateway does not get the port of this one.
    let again = GatewayOptions { address: world.gateway.address(), ..GatewayOptions::default() };
    match Gateway::start(world.client.clone(), again).await {
        Err(StartError::Listen { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two gateways on one port"),
    }
    world.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_neighbour_harms_nobody() {
    let world = World::start().await;
    world.shop().await;
    world.pod("one", "v1").await;
    world.wait_for_answer((200, "one")).await;
    world
        .apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "bad", "namespace": "default"}, "spec": {"parentRefs": [{"name": "gw"}],
            "hostnames": ["bad"], "rules": [{"backendRefs": [{"name": "gone", "port": 80}]}]}}))
        .await;
    world
        .wait("the bad route is reported", async || {
            let status = world.status("HTTPRoute", "bad").await;
            World::words(&status["parents"][0]["conditions"]).contains("ResolvedRefs=False/BackendNotFound")
        })
        .await;
    assert_eq!(world.get("/", "").await, (200, "one".into()));
    world
        .wait("both routes are counted", async || {
            world.status("Gateway", "gw").await["listeners"][0]["attachedRoutes"] == json!(2)
        })
        .await;
    world.gateway.shutdown().await;
}
