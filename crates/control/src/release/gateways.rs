//! What the gateways serve: each keeps a Lease in which it acknowledges the newest revisions that all its workers work with.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde::Deserialize;

/// On the Leases of gateways.
pub(crate) const COMPONENT_LABEL: &str = "sluice.dev/component=gateway";
const ACKNOWLEDGED: &str = "sluice.dev/acknowledged";
const LEASE_SECONDS: i32 = 40;

/// The gateways that are alive.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    acknowledged: Vec<Acknowledged>,
    /// When the first of them counts as gone unless it is heard of.
    pub(crate) until: Option<Timestamp>,
}

/// Newest revisions, by kind; a kind that is not named was not read yet.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
struct Acknowledged {
    #[serde(default)]
    rollouts: String,
    #[serde(default)]
    endpointslices: String,
}

impl Gateways {
    pub(crate) fn read<'a>(leases: impl IntoIterator<Item = &'a Lease>, now: Timestamp) -> Self {
        let mut gateways = Self::default();
        for lease in leases {
            let Some(until) = alive_until(lease).filter(|until| now < *until) else { continue };
            let text = lease.annotations().get(ACKNOWLEDGED).map_or("{}", String::as_str);
            gateways.acknowledged.push(serde_json::from_str(text).unwrap_or_default());
            gateways.until = Some(gateways.until.map_or(until, |earliest| earliest.min(until)));
        }
        gateways
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Whether every live gateway serves this revision of a Rollout.
    pub(crate) fn serve_rollout(&self, revision: u64) -> bool {
        self.acknowledged.iter().all(|gateway| number(&gateway.rollouts) >= revision)
    }

    /// Whether every live gateway serves this revision of an EndpointSlice.
    pub(crate) fn serve_slice(&self, revision: u64) -> bool {
        self.acknowledged.iter().all(|gateway| number(&gateway.endpointslices) >= revision)
    }
}

fn alive_until(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    let seconds = spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS);
    spec.renew_time.as_ref()?.0.checked_add(jiff::SignedDuration::from_secs(i64::from(seconds))).ok()
}

fn number(revision: &str) -> u64 {
    revision.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(renewed: &str, acknowledged: &str) -> Lease {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "gateway-a", "annotations": {ACKNOWLEDGED: acknowledged}},
            "spec": {"renewTime": renewed, "leaseDurationSeconds": 40},
        }))
        .expect("a lease")
    }

    #[test]
    fn all_live_gateways_must_acknowledge_and_dead_ones_need_not() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let fresh = lease("2026-01-01T00:00:50.000000Z", r#"{"rollouts": "12", "pods": "3"}"#);
        let behind = lease("2026-01-01T00:00:55.000000Z", r#"{"rollouts": "9"}"#);
        let dead = lease("2026-01-01T00:00:10.000000Z", r#"{"rollouts": "1"}"#);
        let gateways = Gateways::read([&fresh, &dead], now);
        assert!(gateways.serve_rollout(12) && !gateways.serve_rollout(13) && !gateways.serve_slice(1));
        assert_eq!(gateways.until, Some("2026-01-01T00:01:30Z".parse().expect("a time")));
        assert!(!Gateways::read([&fresh, &behind], now).serve_rollout(12));
        let nobody = Gateways::read([&dead], now);
        assert!(nobody.is_empty() && nobody.serve_rollout(99));
    }
}
