//! Several gateways on one API.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use sluice_gateway::{Gateway, GatewayOptions};

use crate::world::{World, get};

fn named(instance: &str, last: u8) -> GatewayOptions {
    let advertise = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
    GatewayOptions { instance: instance.to_owned(), advertise, workers: 1, ..GatewayOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_serve_the_same_and_one_of_them_says_so() {
    let world = World::start_with(named("b", 2)).await;
    world.shop().await;
    world.pod("one", "v1").await;
    world.wait_for_answer((200, "one")).await;
    let told = async || world.status("Gateway", "gw").await["addresses"].clone();
    let address = |last: u8| json!({"type": "IPAddress", "value": format!("192.0.2.{last}")});
    world.wait("the first one tells its address", async || told().await == json!([address(2)])).await;

    // It goes first by its name, and knows of the other from its first look.
    let other = Gateway::start(world.client.clone(), named("a", 1)).await.expect("a gateway");
    world.wait("the other serves", async || get(other.address(), "/", "").await == (200, "one".to_owned())).await;
    world.wait("both are told", async || told().await == json!([address(1), address(2)])).await;

    let revision = world.delete_pod("one").await;
    for instance in ["a", "b"] {
        let acknowledges = async || {
            let revisions = world.lease_of(instance, "acknowledged").await.unwrap_or_default();
            revisions["pods"].as_str().and_then(|pods| pods.parse::<u64>().ok()).is_some_and(|pods| pods >= revision)
        };
        world.wait(&format!("{instance} acknowledges the deletion"), acknowledges).await;
    }
    assert_eq!(get(other.address(), "/", "").await.0, 503);
    other.shutdown().await;
    assert_eq!(world.lease_of("a", "acknowledged").await, None, "nobody waits for a stopped gateway");
    world.gateway.shutdown().await;
}
