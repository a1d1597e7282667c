//! Built-in objects in their other versions: the autoscaler in `v1` and `v2`, events in both their groups.
//!
//! All other built-in kinds are served in one version; custom resources convert by their name alone.

mod autoscaler;
mod event;

use serde_json::{Map, Value, json};

use crate::kinds::Kind;

type Object = Map<String, Value>;

/// Makes an object of another version of the same resource one of `kind`.
pub fn convert(kind: &Kind, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let from = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let to = kind.api_version();
    match (kind.kind.as_str(), from.as_str(), to.as_str()) {
        _ if from == to => return,
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => autoscaler::to_v2(fields),
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => autoscaler::to_v1(fields),
        ("Event", "v1", "events.k8s.io/v1") => event::to_events_group(fields),
        ("Event", "events.k8s.io/v1", "v1") => event::to_core(fields),
        _ => {}
    }
    fields.insert("apiVersion".to_owned(), json!(to));
}

/// Moves a field, if it is there.
fn rename(fields: &mut Object, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[track_caller]
    fn there_and_back(group: &str, version: &str, kind: &str, object: &Value, expected: &Value) {
        let catalog = Catalog::builtin();
        let to = catalog.kind(group, version, kind).expect("a built-in kind");
        let mut converted = object.clone();
        convert(to, &mut converted);
        assert_eq!(&converted, expected);
        let (group, version) = match object["apiVersion"].as_str().expect("a version") {
            "v1" => ("", "v1"),
            other => other.split_once('/').expect("a group"),
        };
        convert(catalog.kind(group, version, kind).expect("a built-in kind"), &mut converted);
        assert_eq!(&converted, object);
    }

    #[test]
    fn an_autoscaler_keeps_in_annotations_what_its_old_version_cannot_say() {
        let target = json!({"type": "Utilization", "averageUtilization": 60});
        let memory = json!({"type": "AverageValue", "averageValue": "1Gi"});
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "memory", "target": memory}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": target}},
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Min"}},
            },
            "status": {"desiredReplicas": 0},
        });
        let v1 = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "annotations": {
                "autoscaling.alpha.kubernetes.io/behavior":
                    "{\"ScaleUp\":null,\"ScaleDown\":{\"StabilizationWindowSeconds\":null,\"SelectPolicy\":\"Min\",\
                     \"Policies\":null,\"Tolerance\":null}}",
                "autoscaling.alpha.kubernetes.io/metrics":
                    "[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\"targetAverageValue\":\"1Gi\"}}]",
            }},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 60},
            "status": {"desiredReplicas": 0},
        });
        there_and_back("autoscaling", "v1", "HorizontalPodAutoscaler", &v2, &v1);
    }

    #[test]
    fn events_have_other_words_in_their_own_group() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod"}, "message": "hello", "source": {"component": "c"}, "count": 2,
            "firstTimestamp": null, "lastTimestamp": null, "reportingComponent": "ctl", "reason": "Done",
        });
        let events = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "regarding": {"kind": "Pod"}, "note": "hello", "deprecatedSource": {"component": "c"}, "deprecatedCount": 2,
            "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null, "reportingController": "ctl",
            "reason": "Done",
        });
        there_and_back("events.k8s.io", "v1", "Event", &core, &events);
    }
}
