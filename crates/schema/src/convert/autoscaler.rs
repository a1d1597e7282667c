//! `autoscaling/v1` knows one metric, the use of CPU. All else that `v2` can say goes into annotations, whose text is that of
//! a real server to the byte: fields in their published order.

use serde_json::{Map, Value, json};

use super::Object;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

pub(super) fn to_v1(object: &mut Object) {
    drop_annotations(object);
    let mut kept = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = spec.remove("metrics").unwrap_or_default();
        let (cpu, others): (Vec<&Value>, Vec<&Value>) = items(&metrics).partition(|m| cpu_use(m, "target").is_some());
        if let Some(percentage) = cpu.first().and_then(|metric| cpu_use(metric, "target")) {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percentage.clone());
        }
        if !others.is_empty() {
            kept.push((METRICS, list(others.into_iter().map(|metric| metric_to_v1(metric, "target")))));
        }
        if let Some(behavior) = spec.remove("behavior") {
            kept.push((BEHAVIOR, behavior_text(&behavior)));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let metrics = status.remove("currentMetrics").unwrap_or_default();
        if let Some(percentage) = items(&metrics).find_map(|metric| cpu_use(metric, "current")) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percentage.clone());
        }
        if items(&metrics).next().is_some() {
            kept.push((CURRENT_METRICS, list(items(&metrics).map(|metric| metric_to_v1(metric, "current")))));
        }
        let conditions = status.remove("conditions").unwrap_or_default();
        if items(&conditions).next().is_some() {
            const FIELDS: [&str; 5] = ["type", "status", "lastTransitionTime", "reason", "message"];
            kept.push((CONDITIONS, list(items(&conditions).map(|condition| ordered(condition, &FIELDS)))));
        }
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for (name, text) in kept {
        metadata.entry("annotations").or_insert_with(|| json!({}))[name] = json!(text);
    }
}

pub(super) fn to_v2(object: &mut Object) {
    let annotations = object.get("metadata").map_or(Value::Null, |metadata| metadata["annotations"].clone());
    let annotation = |name: &str| {
        let text = annotations[name].as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    // Without any spec there still is the metric that stands for none.
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    if spec.is_null() {
        *spec = json!({});
    }
    if let Some(spec) = spec.as_object_mut() {
        let others = annotation(METRICS).unwrap_or_default();
        let mut metrics: Vec<Value> = items(&others).map(|metric| metric_to_v2(metric, "target")).collect();
        metrics.extend(spec.remove("targetCPUUtilizationPercentage").map(|percentage| cpu_metric(&percentage)));
        if metrics.is_empty() {
            metrics.push(cpu_metric(&json!(80)));
        }
        spec.insert("metrics".to_owned(), Value::Array(metrics));
        if let Some(behavior) = annotation(BEHAVIOR) {
            spec.insert("behavior".to_owned(), behavior_value(&behavior));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percentage = status.remove("currentCPUUtilizationPercentage");
        let metrics = match (annotation(CURRENT_METRICS), percentage) {
            (Some(metrics), _) => items(&metrics).map(|metric| metric_to_v2(metric, "current")).collect(),
            (None, Some(percentage)) => {
                let current = json!({"averageUtilization": percentage});
                vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})]
            }
            (None, None) => Vec::new(),
        };
        if !metrics.is_empty() {
            status.insert("currentMetrics".to_owned(), Value::Array(metrics));
        }
        if let Some(conditions) = annotation(CONDITIONS) {
            status.insert("conditions".to_owned(), conditions);
        }
    }
    drop_annotations(object);
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn drop_annotations(object: &mut Object) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    for name in [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS] {
        annotations.remove(name);
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// The use of CPU, if that is what the metric is about.
fn cpu_use<'a>(metric: &'a Value, side: &str) -> Option<&'a Value> {
    let resource = &metric["resource"];
    let use_of_cpu = metric["type"] == "Resource" && resource["name"] == "cpu";
    resource[side].get("averageUtilization").filter(|percentage| use_of_cpu && !percentage.is_null())
}

fn cpu_metric(percentage: &Value) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percentage});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// The sources of a metric: its name in both versions, and where `v1` puts what, in its order. A word `@x` names the value
/// `x` of the side, with the side's own name before it.
const SOURCES: [(&str, &[(&str, &str)]); 5] = [
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric/name"),
            ("@Value", "@value"),
            ("selector", "metric/selector"),
            ("averageValue", "@averageValue"),
        ],
    ),
    ("pods", &[("metricName", "metric/name"), ("@AverageValue", "@averageValue"), ("selector", "metric/selector")]),
    (
        "resource",
        &[("name", "name"), ("@AverageUtilization", "@averageUtilization"), ("@AverageValue", "@averageValue")],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("@AverageUtilization", "@averageUtilization"),
            ("@AverageValue", "@averageValue"),
            ("container", "container"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric/name"),
            ("metricSelector", "metric/selector"),
            ("@Value", "@value"),
            ("@AverageValue", "@averageValue"),
        ],
    ),
];

/// `side` is `target` in the spec and `current` in the status.
fn metric_to_v1(metric: &Value, side: &str) -> String {
    let mut parts = vec![format!("\"type\":{}", metric["type"])];
    for (source, words) in SOURCES {
        let Some(from) = metric.get(source) else { continue };
        let fields = words.iter().filter_map(|(old, new)| {
            let value = from.pointer(&format!("/{}", new.replace('@', &format!("{side}/"))))?;
            Some(format!("\"{}\":{}", old.replace('@', side), text_of(old, value)))
        });
        parts.push(format!("\"{source}\":{{{}}}", fields.collect::<Vec<_>>().join(",")));
    }
    format!("{{{}}}", parts.join(","))
}

fn text_of(word: &str, value: &Value) -> String {
    match word {
        "target" => ordered(value, &["kind", "name", "apiVersion"]),
        "selector" | "metricSelector" => ordered(value, &["matchLabels", "matchExpressions"]),
        _ => value.to_string(),
    }
}

fn metric_to_v2(metric: &Value, side: &str) -> Value {
    let mut out = Map::from_iter([("type".to_owned(), metric["type"].clone())]);
    for (source, words) in SOURCES {
        let Some(from) = metric.get(source) else { continue };
        let mut to = json!({});
        for (old, new) in words {
            let Some(value) = from.get(old.replace('@', side)) else { continue };
            match new.split_once(['@', '/']) {
                Some(("", word)) => to[side][word] = value.clone(),
                Some((part, word)) => to[part][word] = value.clone(),
                None => to[*new] = value.clone(),
            }
        }
        if side == "target" {
            to[side]["type"] = json!(target_type(&to[side]));
        }
        out.insert(source.to_owned(), to);
    }
    Value::Object(out)
}

fn target_type(target: &Value) -> &'static str {
    match target {
        target if target.get("averageUtilization").is_some() => "Utilization",
        target if target.get("averageValue").is_some() => "AverageValue",
        _ => "Value",
    }
}

/// Scaling rules are kept in the words of the server's own memory: capitals, and nulls for what is not there.
fn behavior_text(behavior: &Value) -> String {
    let policy = |policy: &Value| {
        let (kind, value, period) = (&policy["type"], &policy["value"], &policy["periodSeconds"]);
        format!("{{\"Type\":{kind},\"Value\":{value},\"PeriodSeconds\":{period}}}")
    };
    let rules = |rules: &Value| {
        if rules.is_null() {
            return "null".to_owned();
        }
        let (window, select) = (&rules["stabilizationWindowSeconds"], &rules["selectPolicy"]);
        let policies = match &rules["policies"] {
            Value::Null => "null".to_owned(),
            policies => list(items(policies).map(policy)),
        };
        let tolerance = &rules["tolerance"];
        format!(
            "{{\"StabilizationWindowSeconds\":{window},\"SelectPolicy\":{select},\"Policies\":{policies},\
             \"Tolerance\":{tolerance}}}"
        )
    };
    format!("{{\"ScaleUp\":{},\"ScaleDown\":{}}}", rules(&behavior["scaleUp"]), rules(&behavior["scaleDown"]))
}

fn behavior_value(behavior: &Value) -> Value {
    match behavior {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (small_first(name), behavior_value(value))).collect())
        }
        Value::Array(items) => items.iter().map(behavior_value).collect(),
        scalar => scalar.clone(),
    }
}

fn small_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn list(texts: impl Iterator<Item = String>) -> String {
    format!("[{}]", texts.collect::<Vec<_>>().join(","))
}

/// An object with its fields in this order.
fn ordered(object: &Value, fields: &[&str]) -> String {
    let parts = fields.iter().filter_map(|name| Some(format!("\"{name}\":{}", object.get(name)?)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}
