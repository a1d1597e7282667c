//! The acknowledged stop: who still has to let go of a pod before it may be told to end.
//!
//! Every gateway keeps a Lease that says up to which revision it serves and which withdrawn pods still have requests in
//! flight. A pod whose deletion has revision r waits until all live gateways serve r or later without it.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::Deserialize;
use tokio::sync::watch;
use tracing::warn;

const NAMESPACE: &str = "sluice-system";
const SELECTOR: &str = "sluice.dev/component=gateway";
const ACKNOWLEDGED: &str = "sluice.dev/acknowledged";
const DRAINING: &str = "sluice.dev/draining";

/// What one gateway last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    name: String,
    alive_until: Timestamp,
    /// It serves the pods as of this revision; `None` if it has not said so yet.
    pods: Option<u64>,
    draining: Vec<String>,
}

/// All gateways; `None` until they have been listed once.
pub(super) type Gateways = Option<Vec<Gateway>>;

/// The gateway that a stop waits for, if any.
pub(super) fn waits_for<'a>(gateways: &'a Gateways, revision: u64, uid: &str, now: Timestamp) -> Option<&'a str> {
    let Some(gateways) = gateways else { return Some("the list of gateways") };
    let mut live = gateways.iter().filter(|gateway| gateway.alive_until > now);
    live.find(|gateway| {
        gateway.pods.is_none_or(|pods| pods < revision) || gateway.draining.iter().any(|pod| pod == uid)
    })
    .map(|gateway| gateway.name.as_str())
}

impl Gateway {
    fn read(lease: &Lease) -> Self {
        #[derive(Deserialize)]
        struct Acknowledged {
            pods: Option<String>,
        }
        let annotation = |name: &str| lease.annotations().get(name).map(String::as_str);
        let acknowledged: Option<Acknowledged> =
            annotation(ACKNOWLEDGED).and_then(|text| serde_json::from_str(text).ok());
        let spec = lease.spec.as_ref();
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        Self {
            name: lease.name_any(),
            alive_until: renewed + Duration::from_secs(u64::from(seconds.unsigned_abs())),
            pods: acknowledged.and_then(|acknowledged| acknowledged.pods?.parse().ok()),
            draining: annotation(DRAINING).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        }
    }
}

/// Keeps the list of gateways current.
pub(super) async fn follow(client: Client, gateways: watch::Sender<Gateways>) {
    let api = Api::<Lease>::namespaced(client, NAMESPACE);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().labels(SELECTOR)).default_backoff());
    let mut known = BTreeMap::new();
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                known.clear();
                listed = false;
            }
            Ok(watcher::Event::InitApply(lease) | watcher::Event::Apply(lease)) => {
                known.insert(lease.name_any(), Gateway::read(&lease));
            }
            Ok(watcher::Event::Delete(lease)) => drop(known.remove(&lease.name_any())),
            Ok(watcher::Event::InitDone) => listed = true,
            Err(error) => warn!(%error, "Gateways not watched"),
        }
        if listed {
            gateways.send_replace(Some(known.values().cloned().collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(renewed: i64, acknowledged: &str, draining: &str) -> Gateway {
        let lease = serde_json::json!({
            "metadata": {"name": "gateway-1", "annotations": {ACKNOWLEDGED: acknowledged, DRAINING: draining}},
            "spec": {"leaseDurationSeconds": 40, "renewTime": Timestamp::from_second(renewed).expect("a time").to_string()},
        });
        Gateway::read(&serde_json::from_value(lease).expect("a lease"))
    }

    #[test]
    fn a_stop_waits_for_live_gateways_that_serve_the_pod() {
        let (now, live, dead) = (Timestamp::from_second(1_000).expect("a time"), 990, 900);
        for (what, gateways, expected) in [
            ("nobody has been listed", None, Some("the list of gateways")),
            ("there is no gateway", Some(vec![]), None),
            ("it serves an older revision", Some(vec![gateway(live, r#"{"pods":"99"}"#, "[]")]), Some("gateway-1")),
            ("it serves this revision", Some(vec![gateway(live, r#"{"pods":"100"}"#, "[]")]), None),
            ("requests are in flight", Some(vec![gateway(live, r#"{"pods":"120"}"#, r#"["uid"]"#)]), Some("gateway-1")),
            ("another pod drains", Some(vec![gateway(live, r#"{"pods":"120"}"#, r#"["other"]"#)]), None),
            ("it has said nothing yet", Some(vec![gateway(live, "", "")]), Some("gateway-1")),
            ("it is dead", Some(vec![gateway(dead, r#"{"pods":"1"}"#, r#"["uid"]"#)]), None),
        ] {
            assert_eq!(waits_for(&gateways, 100, "uid", now), expected, "{what}");
        }
    }
}
