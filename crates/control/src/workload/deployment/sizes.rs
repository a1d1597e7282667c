//! How many pods a rolling update may have more, or ready fewer, than wanted; and how a scaling is shared out.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::portion::{Rounding, portion};

/// What a Deployment wants of its ReplicaSets together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) wanted: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Sizes {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        if !is_rolling(deployment) {
            return Self { wanted, surge: 0, unavailable: 0 };
        }
        let rolling = spec.and_then(|spec| spec.strategy.as_ref()?.rolling_update.clone()).unwrap_or_default();
        let quarter = IntOrString::String("25%".to_owned());
        let surge = portion(rolling.max_surge.as_ref().unwrap_or(&quarter), wanted, Rounding::Up);
        let unavailable = portion(rolling.max_unavailable.as_ref().unwrap_or(&quarter), wanted, Rounding::Down);
        // Neither would mean that nothing ever moves.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { wanted, surge, unavailable: unavailable.min(wanted) }
    }

    pub(super) fn most(self) -> i32 {
        self.wanted + self.surge
    }

    pub(super) fn least_available(self) -> i32 {
        self.wanted - self.unavailable
    }
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let kind = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    kind != Some("Recreate")
}

/// A ReplicaSet that has pods, for sharing out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) replicas: i32,
    /// The most that all ReplicaSets together could have when it got its size.
    pub(super) most_then: i32,
}

/// The sizes after a scaling, each set growing or shrinking by its part. The sets come largest first; what rounding
/// leaves over is the first one's.
pub(super) fn share_out(shares: &[Share], wanted: i32, most: i32) -> Vec<i32> {
    let total: i32 = shares.iter().map(|share| share.replicas).sum();
    let allowed = if wanted > 0 { most } else { 0 };
    let to_add = allowed - total;
    if to_add == 0 {
        return shares.iter().map(|share| share.replicas).collect();
    }
    let mut added = 0;
    let mut sizes = Vec::with_capacity(shares.len());
    for share in shares {
        let left = to_add - added;
        let part = share.part_of(wanted, most);
        let part = if to_add > 0 { part.min(left) } else { part.max(left) };
        added += part;
        sizes.push(share.replicas + part);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sizes
}

impl Share {
    fn part_of(self, wanted: i32, most: i32) -> i32 {
        if self.replicas == 0 || wanted == 0 {
            return -self.replicas;
        }
        let exact = f64::from(self.replicas) * f64::from(most) / f64::from(self.most_then.max(1));
        #[expect(clippy::cast_possible_truncation, reason = "pod counts are far below 2^31")]
        let rounded = exact.round() as i32;
        rounded - self.replicas
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sizes(replicas: i32, surge: &Value, unavailable: &Value) -> (i32, i32) {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let deployment = json!({"spec": {"replicas": replicas, "strategy": strategy, "selector": {}, "template": {}}});
        let sizes = Sizes::of(&serde_json::from_value(deployment).unwrap());
        (sizes.surge, sizes.unavailable)
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        assert_eq!(sizes(3, &json!("25%"), &json!("25%")), (1, 0));
        assert_eq!(sizes(10, &json!("25%"), &json!("25%")), (3, 2));
        assert_eq!(sizes(4, &json!(2), &json!("100%")), (2, 4));
        assert_eq!(sizes(3, &json!("0%"), &json!("10%")), (0, 1));
        assert_eq!(sizes(2, &json!(0), &json!(5)), (0, 2));
    }

    #[test]
    fn a_scaling_is_shared_by_size() {
        let share = |replicas, most_then| Share { replicas, most_then };
        let ten = [share(8, 13), share(5, 13)];
        assert_eq!(share_out(&ten, 15, 18), [11, 7]);
        assert_eq!(share_out(&[share(3, 5), share(2, 5)], 8, 9), [5, 4]);
        assert_eq!(share_out(&[share(5, 9), share(4, 9)], 2, 3), [2, 1]);
        assert_eq!(share_out(&ten, 0, 3), [0, 0]);
        assert_eq!(share_out(&ten, 10, 13), [8, 5]);
    }
}
