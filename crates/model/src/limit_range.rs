//! Limit ranges: the amounts that containers get when they say none, and the bounds of what may be asked for.

use serde_json::{Map, Value, json};

use crate::quantity::Quantity;
use crate::resources::{Amounts, List, read};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Up to this, ratios are compared in thousandths.
const MOST_MILLI: i64 = i64::MAX / 1000;

/// Gives every container of a pod what the range has for those that say nothing.
pub fn complete(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in of_type(range, "Container") {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        limits.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        pod["metadata"]["annotations"][ANNOTATION] = json!(note);
    }
}

/// The names that the container did not have, in order.
fn fill(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing = |name: &str| container["resources"][field].get(name).is_none();
    let mut set: Vec<String> = defaults.keys().filter(|name| missing(name)).cloned().collect();
    set.sort();
    for name in &set {
        if !container["resources"].is_object() {
            container["resources"] = json!({});
        }
        container["resources"][field][name.as_str()] = defaults[name].clone();
    }
    set
}

/// Everything in a pod that leaves the range, in the words of a real server.
pub fn pod_violations(range: &Value, pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    for limit in range["spec"]["limits"].as_array().into_iter().flatten() {
        match limit["type"].as_str() {
            Some("Container") => {
                let containers = ["containers", "initContainers"].into_iter().flat_map(|list| spec[list].as_array());
                for container in containers.flatten() {
                    let asked = Asked { requests: List::Requests.of(container), limits: List::Limits.of(container) };
                    found.extend(asked.violations(limit, "Container"));
                }
            }
            Some("Pod") => {
                let asked =
                    Asked { requests: List::Requests.of_containers(spec), limits: List::Limits.of_containers(spec) };
                found.extend(asked.violations(limit, "Pod"));
            }
            _ => {}
        }
    }
    once(found)
}

pub fn claim_violations(range: &Value, claim: &Value) -> Vec<String> {
    let kind = "PersistentVolumeClaim";
    let asked = Asked { requests: List::Requests.of(&claim["spec"]), limits: Amounts::new() };
    let mut found = Vec::new();
    for limit in of_type(range, kind) {
        found.extend(read(&limit["min"]).iter().filter_map(|(name, least)| asked.below(name, *least, kind)));
        found.extend(read(&limit["max"]).iter().filter_map(|(name, most)| {
            let bound = format!("maximum {name} usage per {kind} is {most}");
            match asked.requests.get(name) {
                None => Some(format!("{bound}.  No request is specified")),
                Some(request) => (request > most).then(|| format!("{bound}, but request is {request}")),
            }
        }));
    }
    once(found)
}

fn of_type<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |limit| limit["type"] == kind)
}

/// The same violation of several containers is said once.
fn once(found: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    for violation in found {
        if !kept.contains(&violation) {
            kept.push(violation);
        }
    }
    kept
}

struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn violations(&self, limit: &Value, kind: &str) -> Vec<String> {
        let (least, most, ratios) = (read(&limit["min"]), read(&limit["max"]), read(&limit["maxLimitRequestRatio"]));
        let below = least.iter().filter_map(|(name, least)| self.below(name, *least, kind));
        let above = most.iter().filter_map(|(name, most)| self.above(name, *most, kind));
        let apart = ratios.iter().filter_map(|(name, ratio)| self.apart(name, *ratio, kind));
        below.chain(above).chain(apart).collect()
    }

    fn below(&self, name: &str, least: Quantity, kind: &str) -> Option<String> {
        let bound = format!("minimum {name} usage per {kind} is {least}");
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{bound}.  No request is specified"));
        };
        if *request < least {
            return Some(format!("{bound}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|limit| **limit < least);
        limit.map(|limit| format!("{bound}, but limit is {limit}"))
    }

    fn above(&self, name: &str, most: Quantity, kind: &str) -> Option<String> {
        let bound = format!("maximum {name} usage per {kind} is {most}");
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{bound}.  No limit is specified"));
        };
        if *limit > most {
            return Some(format!("{bound}, but limit is {limit}"));
        }
        let request = self.requests.get(name).filter(|request| **request > most);
        request.map(|request| format!("{bound}, but request is {request}"))
    }

    fn apart(&self, name: &str, ratio: Quantity, kind: &str) -> Option<String> {
        let bound = format!("{name} max limit to request ratio per {kind} is {ratio}");
        let amount = |list: &Amounts| list.get(name).filter(|amount| !amount.is_zero()).copied();
        let Some(request) = amount(&self.requests) else {
            return Some(format!("{bound}, but no request is specified or request is 0"));
        };
        let Some(limit) = amount(&self.limits) else {
            return Some(format!("{bound}, but no limit is specified or limit is 0"));
        };
        let provided = as_float(limit) / as_float(request);
        let is_apart = if ratio.value() <= MOST_MILLI {
            provided * 1000.0 > ratio.milli_value() as f64
        } else {
            provided > ratio.value() as f64
        };
        is_apart.then(|| format!("{bound}, but provided ratio is {provided:.6}"))
    }
}

fn as_float(amount: Quantity) -> f64 {
    if amount.value() <= MOST_MILLI { amount.milli_value() as f64 / 1000.0 } else { amount.value() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limits: &Value) -> Value {
        json!({"spec": {"limits": limits}})
    }

    #[test]
    fn containers_get_what_they_do_not_say() {
        let range = range(
            &json!([{"type": "Container", "defaultRequest": {"memory": "1Mi", "cpu": "1"}, "default": {"cpu": "2"}}]),
        );
        let mut pod = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "3", "memory": "2Mi"}, "limits": {"cpu": "3"}}}],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "9"}}}],
        }});
        complete(&range, &mut pod);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; cpu, memory request \
             for init container i"
        );
        let expected = json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "2"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], expected);
        assert_eq!(pod["spec"]["initContainers"][0]["resources"]["limits"], json!({"cpu": "9"}));
        let before = pod.clone();
        complete(&range, &mut pod);
        assert_eq!(pod, before, "a second pass changes nothing");
    }

    #[test]
    fn what_leaves_the_range_is_named() {
        let container = |requests: Value, limits: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]}});
        let cpu = |bound: &str, value: &str| json!([{"type": "Container", bound: {"cpu": value}}]);
        let cases = [
            (
                cpu("min", "50m"),
                container(json!({}), json!({})),
                "minimum cpu usage per Container is 50m.  No request is specified",
            ),
            (
                cpu("min", "50m"),
                container(json!({"cpu": "10m"}), json!({"cpu": "30m"})),
                "minimum cpu usage per Container is 50m, but request is 10m",
            ),
            (
                cpu("min", "50m"),
                container(json!({"cpu": "50m"}), json!({"cpu": "30m"})),
                "minimum cpu usage per Container is 50m, but limit is 30m",
            ),
            (
                cpu("max", "1"),
                container(json!({"cpu": "2"}), json!({})),
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (
                cpu("max", "1"),
                container(json!({"cpu": "2"}), json!({"cpu": "2"})),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                cpu("max", "1"),
                container(json!({"cpu": "2"}), json!({"cpu": "1"})),
                "maximum cpu usage per Container is 1, but request is 2",
            ),
            (cpu("max", "2"), container(json!({"cpu": "2"}), json!({"cpu": "2"})), ""),
            (
                cpu("maxLimitRequestRatio", "4"),
                container(json!({"cpu": "100m"}), json!({"cpu": "800m"})),
                "cpu max limit to request ratio per Container is 4, but provided ratio is 8.000000",
            ),
            (
                cpu("maxLimitRequestRatio", "4"),
                container(json!({"cpu": "0"}), json!({"cpu": "800m"})),
                "cpu max limit to request ratio per Container is 4, but no request is specified or request is 0",
            ),
            (
                cpu("maxLimitRequestRatio", "4"),
                container(json!({"cpu": "1"}), json!({})),
                "cpu max limit to request ratio per Container is 4, but no limit is specified or limit is 0",
            ),
            (cpu("maxLimitRequestRatio", "1500m"), container(json!({"cpu": "2"}), json!({"cpu": "3"})), ""),
            (
                json!([{"type": "Pod", "max": {"cpu": "1500m"}}]),
                json!({"spec": {"containers": [
                {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}]}}),
                "maximum cpu usage per Pod is 1500m, but limit is 2",
            ),
        ];
        for (limits, pod, expected) in cases {
            assert_eq!(pod_violations(&range(&limits), &pod).join(", "), expected, "{pod}");
        }
    }

    #[test]
    fn claims_have_bounds_of_their_own() {
        let range =
            range(&json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "10Gi"}}]));
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let cases = [
            ("512Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
            ("20Gi", "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi"),
            ("5Gi", ""),
        ];
        for (size, expected) in cases {
            assert_eq!(claim_violations(&range, &claim(size)).join(", "), expected);
        }
    }
}
