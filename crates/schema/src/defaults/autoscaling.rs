//! HorizontalPodAutoscalers.

use serde_json::{Value, json};

use crate::edit::Edit;

const CPU_PERCENT: i64 = 80;

/// Works on the newest version, which is also how they are stored.
pub(super) fn autoscaler(object: &mut Value) {
    let v1 = object.text("apiVersion") == "autoscaling/v1";
    let spec = object.ensure("spec");
    spec.default("minReplicas", 1);
    if v1 {
        // Other metrics would stand in annotations.
        let metrics = "autoscaling.alpha.kubernetes.io/metrics";
        let others = object["metadata"]["annotations"].has(metrics);
        if !others {
            object.ensure("spec").default("targetCPUUtilizationPercentage", CPU_PERCENT);
        }
        return;
    }
    if !spec.holds("metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
        spec.put("metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    let Some(behavior) = spec.child("behavior") else { return };
    scaling(
        behavior.ensure("scaleUp"),
        &json!({
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ],
        }),
    );
    scaling(
        behavior.ensure("scaleDown"),
        &json!({
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        }),
    );
}

fn scaling(rules: &mut Value, defaults: &Value) {
    for (field, value) in defaults.as_object().into_iter().flatten() {
        rules.default(field, value.clone());
    }
}
