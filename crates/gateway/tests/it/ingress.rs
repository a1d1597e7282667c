//! Ingresses: from the API to answers, addresses and events.

use serde_json::{Value, json};
use sluice_gateway::{CONTROLLER_NAME, GATEWAY_CLASS};

use crate::world::{World, answer, get};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

impl World {
    async fn with_ingress_class() -> Self {
        let world = Self::start().await;
        world
            .apply(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": {"name": GATEWAY_CLASS}, "spec": {"controller": CONTROLLER_NAME}}))
            .await;
        world.service("shop").await;
        world.pod("one", "v1").await;
        world
    }

    async fn service(&self, name: &str) {
        self.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}))
            .await;
    }

    /// For host `shop`.
    async fn ingress(&self, name: &str, annotations: &[(&str, &str)], class: &str, service: &str) {
        let annotations: serde_json::Map<String, Value> =
            annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))).collect();
        let backend = json!({"service": {"name": service, "port": {"name": "http"}}});
        self.apply(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"ingressClassName": class, "rules": [{"host": "shop",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}}))
            .await;
    }

    async fn address_of(&self, ingress: &str) -> Value {
        let object = self.object("networking.k8s.io/v1", "Ingress", ingress).await;
        object.data["status"]["loadBalancer"]["ingress"][0]["ip"].clone()
    }

    /// `REASON message` of every event about this object.
    async fn events_about(&self, name: &str) -> Vec<String> {
        let events = self.objects("v1", "Event").await;
        let about = events.into_iter().filter(|event| event.data["involvedObject"]["name"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        about.map(|event| format!("{} {}", text(&event.data["reason"]), text(&event.data["message"]))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_is_served_has_an_address_and_loses_both_with_its_class() {
    let world = World::with_ingress_class().await;
    world.ingress("web", &[], GATEWAY_CLASS, "shop").await;
    world.wait_for_answer((200, "one")).await;
    world.wait("an address", async || world.address_of("web").await == "127.0.0.1").await;
    world.wait("an acknowledgement", async || world.acknowledged("ingresses").await > 0).await;

    world.ingress("web", &[], "nginx", "shop").await;
    world.wait_for_answer((404, "no-route")).await;
    world.wait("no address", async || world.address_of("web").await.is_null()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_ingress_asks_for_in_vain_is_said_once() {
    let world = World::with_ingress_class().await;
    world.ingress("web", &[("configuration-snippet", "deny all;"), ("canary", "perhaps")], GATEWAY_CLASS, "shop").await;
    world.wait_for_answer((200, "one")).await;
    world.wait("two events", async || world.events_about("web").await.len() == 2).await;
    let mut events = world.events_about("web").await;
    events.sort();
    let ignored =
        format!("AnnotationIgnored annotation `{PREFIX}configuration-snippet` has no effect with this gateway");
    let invalid =
        format!("AnnotationInvalid annotation `{PREFIX}canary` has no effect: `perhaps` is not `true` or `false`");
    assert_eq!(events, [ignored, invalid]);

    // Of one age, the first by name has the path.
    world.ingress("web2", &[], GATEWAY_CLASS, "nobody").await;
    world.wait("what is wrong with the second", async || world.events_about("web2").await.len() == 2).await;
    let world = world.restart().await;
    world.wait_for_answer((200, "one")).await;
    world.ingress("web3", &[("limit-rps", "1")], GATEWAY_CLASS, "shop").await;
    world.wait("one of the third", async || !world.events_about("web3").await.is_empty()).await;
    assert_eq!(world.events_about("web").await.len(), 2, "said once, whoever says it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_trusted_says_whether_it_was_tls() {
    let world = World::with_ingress_class().await;
    world.ingress("web", &[("force-ssl-redirect", "true")], GATEWAY_CLASS, "shop").await;
    let address = world.gateway.address();
    world.wait("a redirect", async || get(address, "/x", "").await.0 == 308).await;
    // Nobody is trusted: what a stranger claims is not believed.
    let (status, head, _) = answer(address, "/x?a", "x-forwarded-proto: https\r\n").await;
    assert_eq!(status, 308);
    assert!(head.to_ascii_lowercase().contains("location: https://shop/x?a"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_are_told_by_the_address_of_the_connection() {
    let world = World::with_ingress_class().await;
    world.ingress("web", &[("whitelist-source-range", "10.0.0.0/8")], GATEWAY_CLASS, "shop").await;
    let address = world.gateway.address();
    world.wait("a refusal", async || get(address, "/", "x-forwarded-for: 10.0.0.1\r\n").await.0 == 403).await;
    world.ingress("web", &[("whitelist-source-range", "127.0.0.0/8")], GATEWAY_CLASS, "shop").await;
    world.wait_for_answer((200, "one")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_an_ingress_have_its_cookie() {
    let world = World::with_ingress_class().await;
    world.pod("two", "v1").await;
    let annotations = [("affinity", "cookie"), ("session-cookie-name", "route"), ("session-cookie-max-age", "60")];
    world.ingress("web", &annotations, GATEWAY_CLASS, "shop").await;
    world.wait_for_answer((200, "")).await;
    let (_, head, first) = answer(world.gateway.address(), "/", "").await;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie").to_owned();
    assert!(cookie.starts_with("route=") && cookie.contains("Path=/; Max-Age=60"), "{cookie}");
    let (pair, _) = cookie.split_once(';').expect("terms");
    for _ in 0..8 {
        assert_eq!(world.get("/", &format!("cookie: {pair}\r\n")).await, (200, first.clone()));
    }
}
