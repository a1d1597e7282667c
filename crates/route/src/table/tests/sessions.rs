//! Clients that come back to the pod that answered them first.

use super::*;
use crate::session::Notice;

/// The uid of the pod that a request with these headers is bound to, and else the token of a new session with the first pod.
fn asked(town: &mut Town, cookie: &str, received: u64) -> Result<String, String> {
    let headers = vec![("cookie", cookie.to_owned())];
    let head = RequestHead { method: "GET", host: "h", path: "/", query: None, headers: &headers, received };
    let compiled = town.last.as_ref().expect("a table");
    let Decision::Forward(forward) = compiled.table.find(Entrance::Default, &head, &mut town.draws) else {
        panic!("refused")
    };
    match forward.held {
        Some(endpoint) => Ok(endpoint.uid.to_string()),
        None => {
            let session = forward.rule.session.as_ref().expect("a session is asked for");
            let Notice::Cookie { name, value, max_age, .. } = session.begin(&forward.endpoints[0], received) else {
                panic!("no cookie")
            };
            assert_eq!(max_age, None, "it ends with the browser");
            Err(format!("{name}={value}"))
        }
    }
}

fn route(town: &mut Town, weights: [u32; 2]) {
    let backends =
        json!([{"name": "a", "port": 80, "weight": weights[0]}, {"name": "b", "port": 80, "weight": weights[1]}]);
    let session = json!({"sessionName": "cart", "absoluteTimeout": "1h"});
    town.route("r", json!({"rules": [{"backendRefs": backends, "sessionPersistence": session}]}));
}

#[test]
fn a_client_comes_back_to_its_pod_while_there_is_a_way_to_it() {
    let mut town = Town::with_gateway();
    town.service("a", &["a1", "a2"]).service("b", &["b1"]);
    route(&mut town, [1, 1]);
    let mut tokens: Vec<String> = (0..2).map(|_| asked(&mut town, "x=1", 1000).expect_err("a new session")).collect();
    tokens.sort();
    assert_ne!(tokens[0], tokens[1], "one with each backend");
    let pods: Vec<String> =
        tokens.iter().map(|token| asked(&mut town, &format!("x=1; {token}"), 2000).expect("it goes on")).collect();
    for _ in 0..10 {
        for (token, pod) in tokens.iter().zip(&pods) {
            assert_eq!(asked(&mut town, token, 2000).as_ref(), Ok(pod));
        }
    }
    // An hour after its beginning it is over.
    assert!(asked(&mut town, &tokens[0], 4599).is_ok() && asked(&mut town, &tokens[0], 4600).is_err());
    // Weight 0 gets nothing, whoever was there before.
    let of_b = pods.iter().position(|pod| pod.contains("b1")).expect("one is with b");
    route(&mut town, [1, 0]);
    assert!(asked(&mut town, &tokens[of_b], 2000).is_err());
    route(&mut town, [1, 1]);
    assert_eq!(asked(&mut town, &tokens[of_b], 2000), Ok(pods[of_b].clone()));
    town.endpoints("b", &["b2"]);
    assert!(asked(&mut town, &tokens[of_b], 2000).is_err(), "its pod is gone");
}

#[test]
fn a_version_without_a_share_keeps_nobody() {
    let mut town = Town::with_gateway();
    town.service("a", &["a1:v1", "a2:v2"]).service("b", &[]);
    route(&mut town, [1, 0]);
    town.exposure("a", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 10000}));
    let token = asked(&mut town, "", 1000).expect_err("a new session");
    assert!(asked(&mut town, &token, 1000).is_ok());
    town.exposure("a", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 5000}));
    assert!(asked(&mut town, &token, 1000).is_ok(), "a session is stronger than the split");
    town.exposure("a", json!({"stable": "v1", "candidate": "v2", "candidateWeight": 0}));
    assert!(asked(&mut town, &token, 1000).is_err());
}

#[test]
fn a_stranger_s_token_is_no_token() {
    let mut town = Town::with_gateway();
    town.service("a", &["a1"]).service("b", &["b1"]);
    route(&mut town, [1, 1]);
    for cookie in ["cart=", "cart=zz-1", "cart=0-0", "cart=ffffffffffffffff-ffffffffffffffff", "cart"] {
        assert!(asked(&mut town, cookie, 1000).is_err(), "{cookie}");
    }
}
