//! Nodes, volumes, configuration, access and all other kinds with a table of their own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cells::{Object, human_duration, items, plain, since};
use super::default_cells;
use crate::kinds::Kind;

pub(super) fn core(kind: &str, object: Object<'_>) -> Vec<Value> {
    let entries = |pointer: &str| object.at(pointer).as_object().map_or(0, serde_json::Map::len);
    match kind {
        "ConfigMap" => vec![object.name(), (entries("/data") + entries("/binaryData")).into(), object.age()],
        "Secret" => vec![object.name(), object.text("/type").into(), entries("/data").into(), object.age()],
        "ServiceAccount" => vec![object.name(), object.age()],
        "Namespace" => vec![object.name(), object.text("/status/phase").into(), object.age()],
        "Node" => node(object),
        "PersistentVolume" => volume(object),
        "PersistentVolumeClaim" => claim(object),
        "ResourceQuota" => quota(object),
        "Event" => event(object),
        "ComponentStatus" => component(object),
        _ => default_cells(object),
    }
}

pub(super) fn other(kind: &Kind, object: Object<'_>) -> Vec<Value> {
    match kind.kind.as_str() {
        "RoleBinding" | "ClusterRoleBinding" => binding(object),
        "PodDisruptionBudget" => budget(object),
        "HorizontalPodAutoscaler" => autoscaler(object),
        "Lease" => vec![object.name(), object.text("/spec/holderIdentity").into(), object.age()],
        "PriorityClass" => vec![
            object.name(),
            object.int("/value"),
            object.flag("/globalDefault", false),
            object.age(),
            object.text("/preemptionPolicy").into(),
        ],
        "RuntimeClass" => vec![object.name(), object.text("/handler").into(), object.age()],
        "StorageClass" => storage_class(object),
        "VolumeAttributesClass" => vec![object.name(), object.text("/driverName").into(), object.age()],
        "VolumeAttachment" => vec![
            object.name(),
            object.text("/spec/attacher").into(),
            object.text("/spec/source/persistentVolumeName").into(),
            object.text("/spec/nodeName").into(),
            object.flag("/status/attached", false),
            object.age(),
        ],
        "CSINode" => vec![object.name(), object.list("/spec/drivers").len().into(), object.age()],
        "CSIDriver" => csi_driver(object),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            vec![object.name(), object.list("/webhooks").len().into(), object.age()]
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => policy(object),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => policy_binding(object),
        "FlowSchema" => flow_schema(object),
        "PriorityLevelConfiguration" => priority_level(object),
        "CertificateSigningRequest" => signing_request(object),
        "APIService" => api_service(object),
        "DeviceClass" | "ResourceClaimTemplate" => vec![object.name(), object.age()],
        "ResourceClaim" => vec![object.name(), claim_state(object).into(), object.age()],
        "ResourceSlice" => vec![
            object.name(),
            object.text("/spec/nodeName").into(),
            object.text("/spec/driver").into(),
            object.text("/spec/pool/name").into(),
            object.age(),
        ],
        _ => default_cells(object),
    }
}

fn node(object: Object<'_>) -> Vec<Value> {
    let ready = object.list("/status/conditions").iter().rev().find(|c| c["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.at("/spec/unschedulable") == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (label, value) in object.at("/metadata/labels").as_object().into_iter().flatten() {
        if let Some(role) = label.strip_prefix("node-role.kubernetes.io/") {
            roles.insert(role);
        } else if label == "kubernetes.io/role" {
            roles.extend(value.as_str());
        }
    }
    roles.remove("");
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") };
    let address = |kind: &str| {
        let found = object.list("/status/addresses").iter().find(|address| address["type"] == kind);
        Value::from(found.and_then(|address| address["address"].as_str()).unwrap_or("<none>"))
    };
    vec![
        object.name(),
        status.into(),
        roles.into(),
        object.age(),
        object.text("/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        object.text_or("/status/nodeInfo/osImage", "<unknown>"),
        object.text_or("/status/nodeInfo/kernelVersion", "<unknown>"),
        object.text_or("/status/nodeInfo/containerRuntimeVersion", "<unknown>"),
    ]
}

/// `RWO,RWX`, in this order, each once.
fn access_modes(list: &[Value]) -> Value {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found = short.iter().filter(|(mode, _)| list.iter().any(|given| given == mode)).map(|(_, short)| *short);
    found.collect::<Vec<_>>().join(",").into()
}

/// The class as it is now written, or as it was in an annotation.
fn class<'a>(object: Object<'a>) -> &'a str {
    let annotations = object.at("/metadata/annotations");
    annotations["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .unwrap_or_else(|| object.text("/spec/storageClassName"))
}

fn phase(object: Object<'_>) -> Value {
    if object.is_leaving() { "Terminating" } else { object.text("/status/phase") }.into()
}

fn quantity_or_zero(value: &Value) -> Value {
    value.as_str().unwrap_or("0").into()
}

fn volume(object: Object<'_>) -> Vec<Value> {
    let claim = match object.at("/spec/claimRef") {
        Value::Null => String::new(),
        claim => format!(
            "{}/{}",
            claim["namespace"].as_str().unwrap_or_default(),
            claim["name"].as_str().unwrap_or_default()
        ),
    };
    vec![
        object.name(),
        quantity_or_zero(object.at("/spec/capacity/storage")),
        access_modes(object.list("/spec/accessModes")),
        object.text("/spec/persistentVolumeReclaimPolicy").into(),
        phase(object),
        claim.into(),
        class(object).into(),
        object.at("/spec/volumeAttributesClassName").as_str().unwrap_or("<unset>").into(),
        object.text("/status/reason").into(),
        object.age(),
        object.at("/spec/volumeMode").as_str().unwrap_or("<unset>").into(),
    ]
}

fn claim(object: Object<'_>) -> Vec<Value> {
    let bound = !object.text("/spec/volumeName").is_empty();
    let (capacity, modes) = if bound {
        (quantity_or_zero(object.at("/status/capacity/storage")), access_modes(object.list("/status/accessModes")))
    } else {
        ("".into(), "".into())
    };
    vec![
        object.name(),
        phase(object),
        object.text("/spec/volumeName").into(),
        capacity,
        modes,
        class(object).into(),
        object.at("/spec/volumeAttributesClassName").as_str().unwrap_or("<unset>").into(),
        object.age(),
        object.at("/spec/volumeMode").as_str().unwrap_or("<unset>").into(),
    ]
}

fn quota(object: Object<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in object.at("/status/hard").as_object().into_iter().flatten() {
        let used = object.at("/status/used").get(resource).map_or("0".to_owned(), plain);
        let list = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
        list.push(format!("{resource}: {used}/{}", plain(hard)));
    }
    vec![object.name(), requests.join(", ").into(), limits.join(", ").into(), object.age()]
}

/// Events of either group: they are stored, and shown, in the form of the core group.
fn event(object: Object<'_>) -> Vec<Value> {
    let text = |pointers: &[&str]| {
        pointers.iter().map(|p| object.text(p)).find(|t| !t.is_empty()).unwrap_or_default().to_owned()
    };
    let first_time = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"];
    let time =
        |pointers: &[&str]| pointers.iter().map(|p| object.at(p)).find(|v| v.is_string()).unwrap_or(&Value::Null);
    let first = since(time(&first_time), object.now);
    let mut last = match time(&["/lastTimestamp", "/deprecatedLastTimestamp"]) {
        Value::Null => first.clone(),
        time => since(time, object.now),
    };
    let mut count = object.number("/count").max(object.number("/deprecatedCount"));
    if object.at("/series").is_object() {
        last = object.since("/series/lastObservedTime");
        count = object.number("/series/count");
    } else if count == 0 {
        count = 1;
    }
    let about = |field: &str| text(&[&format!("/involvedObject/{field}"), &format!("/regarding/{field}")]);
    let kind = about("kind").to_lowercase();
    let target = if about("name").is_empty() { kind } else { format!("{kind}/{}", about("name")) };
    let component =
        text(&["/source/component", "/deprecatedSource/component", "/reportingComponent", "/reportingController"]);
    let instance = text(&["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
    vec![
        last.into(),
        object.text("/type").into(),
        object.text("/reason").into(),
        target.into(),
        about("fieldPath").into(),
        source.into(),
        text(&["/message", "/note"]).trim().into(),
        first.into(),
        count.into(),
        object.name(),
    ]
}

fn component(object: Object<'_>) -> Vec<Value> {
    let healthy = object.list("/conditions").iter().find(|c| c["type"] == "Healthy");
    let status = match healthy {
        None => "Unknown",
        Some(condition) if condition["status"] == "True" => "Healthy",
        Some(_) => "Unhealthy",
    };
    let text = |field: &str| Value::from(healthy.and_then(|c| c[field].as_str()).unwrap_or_default());
    vec![object.name(), status.into(), text("message"), text("error")]
}

fn binding(object: Object<'_>) -> Vec<Value> {
    let of = |kind: &str| object.list("/subjects").iter().filter(move |s| s["kind"] == kind).collect::<Vec<_>>();
    let text = |subject: &Value, field: &str| subject[field].as_str().unwrap_or_default().to_owned();
    let names = |kind: &str| of(kind).into_iter().map(|s| text(s, "name")).collect::<Vec<_>>().join(", ");
    let accounts: Vec<String> =
        of("ServiceAccount").into_iter().map(|s| format!("{}/{}", text(s, "namespace"), text(s, "name"))).collect();
    let role = format!("{}/{}", object.text("/roleRef/kind"), object.text("/roleRef/name"));
    vec![
        object.name(),
        role.into(),
        object.age(),
        names("User").into(),
        names("Group").into(),
        accounts.join(", ").into(),
    ]
}

fn budget(object: Object<'_>) -> Vec<Value> {
    let bound = |pointer: &str| match object.at(pointer) {
        Value::Null => "N/A".to_owned(),
        value => plain(value),
    };
    vec![
        object.name(),
        bound("/spec/minAvailable").into(),
        bound("/spec/maxUnavailable").into(),
        object.int("/status/disruptionsAllowed"),
        object.age(),
    ]
}

/// Metrics shown of an autoscaler.
const SHOWN_METRICS: usize = 2;

fn autoscaler(object: Object<'_>) -> Vec<Value> {
    let minimum = object.at("/spec/minReplicas").as_i64().map_or("<unset>".to_owned(), |n| n.to_string());
    vec![
        object.name(),
        format!("{}/{}", object.text("/spec/scaleTargetRef/kind"), object.text("/spec/scaleTargetRef/name")).into(),
        targets(object).into(),
        minimum.into(),
        object.int("/spec/maxReplicas"),
        object.int("/status/currentReplicas"),
        object.age(),
    ]
}

fn targets(object: Object<'_>) -> String {
    let metrics = object.list("/spec/metrics");
    // Version 1 knows the CPU alone.
    if let Some(target) = object.at("/spec/targetCPUUtilizationPercentage").as_i64() {
        let current = object.at("/status/currentCPUUtilizationPercentage").as_i64();
        return format!("cpu: {}/{target}%", current.map_or("<unknown>".to_owned(), |n| format!("{n}%")));
    }
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = object.list("/status/currentMetrics");
    let shown: Vec<String> = metrics.iter().enumerate().map(|(i, metric)| target(metric, current.get(i))).collect();
    let list = shown[..shown.len().min(SHOWN_METRICS)].join(", ");
    if shown.len() > SHOWN_METRICS { format!("{list} + {} more...", shown.len() - SHOWN_METRICS) } else { list }
}

/// `cpu: 45%/60%`, `50/100 (avg)`.
fn target(metric: &Value, status: Option<&Value>) -> String {
    let field = match metric["type"].as_str().unwrap_or_default() {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = &metric[field]["target"];
    let status = status.map_or(&Value::Null, |status| &status[field]);
    let current = &status["current"];
    let quantity = |value: &Value| value.as_str().unwrap_or("<nil>").to_owned();
    let known = |text: String| if status.is_null() { "<unknown>".to_owned() } else { text };
    let average = wanted["averageValue"].as_str();
    match (field, average) {
        ("external" | "object", Some(average)) => {
            let now = current["averageValue"].as_str().unwrap_or("<unknown>");
            format!("{now}/{average} (avg)")
        }
        ("external" | "object", None) => {
            format!("{}/{}", known(quantity(&current["value"])), quantity(&wanted["value"]))
        }
        ("pods", _) => format!("{}/{}", known(quantity(&current["averageValue"])), quantity(&wanted["averageValue"])),
        (_, Some(average)) => {
            let name = metric[field]["name"].as_str().unwrap_or_default();
            format!("{name}: {}/{average}", known(quantity(&current["averageValue"])))
        }
        (_, None) => {
            let name = metric[field]["name"].as_str().unwrap_or_default();
            let percent = |value: &Value, or: &str| value.as_i64().map_or(or.to_owned(), |n| format!("{n}%"));
            let now = percent(&current["averageUtilization"], "<unknown>");
            format!("{name}: {now}/{}", percent(&wanted["averageUtilization"], "<auto>"))
        }
    }
}

fn storage_class(object: Object<'_>) -> Vec<Value> {
    let annotations = object.at("/metadata/annotations");
    let default = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|key| annotations[key] == "true");
    let name = object.text("/metadata/name");
    vec![
        if default { format!("{name} (default)").into() } else { name.into() },
        object.text("/provisioner").into(),
        object.at("/reclaimPolicy").as_str().unwrap_or("Delete").into(),
        object.at("/volumeBindingMode").as_str().unwrap_or("Immediate").into(),
        object.flag("/allowVolumeExpansion", false),
        object.age(),
    ]
}

fn csi_driver(object: Object<'_>) -> Vec<Value> {
    let modes = object.list("/spec/volumeLifecycleModes").iter().map(plain).collect::<Vec<_>>().join(",");
    let tokens = match object.at("/spec/tokenRequests") {
        Value::Null => "<unset>".to_owned(),
        list => items(list).iter().map(|t| t["audience"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(","),
    };
    vec![
        object.name(),
        object.flag("/spec/attachRequired", true),
        object.flag("/spec/podInfoOnMount", false),
        object.flag("/spec/storageCapacity", false),
        tokens.into(),
        object.flag("/spec/requiresRepublish", false),
        if modes.is_empty() { "<none>".into() } else { modes.into() },
        object.age(),
    ]
}

fn policy(object: Object<'_>) -> Vec<Value> {
    let rules = object.list("/spec/validations").len() + object.list("/spec/mutations").len();
    let parameters = match object.at("/spec/paramKind") {
        Value::Null => "<unset>".to_owned(),
        kind => {
            format!("{}/{}", kind["apiVersion"].as_str().unwrap_or_default(), kind["kind"].as_str().unwrap_or_default())
        }
    };
    vec![object.name(), rules.into(), parameters.into(), object.age()]
}

fn policy_binding(object: Object<'_>) -> Vec<Value> {
    let reference = object.at("/spec/paramRef");
    let parameters = match (reference["name"].as_str().unwrap_or_default(), reference["namespace"].as_str()) {
        ("", _) => "<unset>".to_owned(),
        (name, namespace) => format!("{}/{name}", namespace.filter(|n| !n.is_empty()).unwrap_or("*")),
    };
    vec![object.name(), object.text("/spec/policyName").into(), parameters.into(), object.age()]
}

fn flow_schema(object: Object<'_>) -> Vec<Value> {
    let dangling = object.list("/status/conditions").iter().find(|c| c["type"] == "Dangling");
    vec![
        object.name(),
        object.text("/spec/priorityLevelConfiguration/name").into(),
        object.int("/spec/matchingPrecedence"),
        object.at("/spec/distinguisherMethod/type").as_str().unwrap_or("<none>").into(),
        object.age(),
        dangling.and_then(|c| c["status"].as_str()).unwrap_or("?").into(),
    ]
}

fn priority_level(object: Object<'_>) -> Vec<Value> {
    let number = |pointer: &str| match object.at(pointer) {
        Value::Null => "<none>".into(),
        value => value.clone(),
    };
    let queuing = |field: &str| match object.at("/spec/limited/limitResponse/queuing") {
        Value::Null => "<none>".into(),
        queuing => Value::from(queuing[field].as_i64().unwrap_or(0)),
    };
    vec![
        object.name(),
        object.text("/spec/type").into(),
        number("/spec/limited/nominalConcurrencyShares"),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        object.age(),
    ]
}

fn signing_request(object: Object<'_>) -> Vec<Value> {
    let has = |kind: &str| object.list("/status/conditions").iter().any(|c| c["type"] == kind);
    let mut status = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !object.text("/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    let asked = object.at("/spec/expirationSeconds").as_i64().map_or("<none>".to_owned(), human_duration);
    vec![
        object.name(),
        object.age(),
        object.text_or("/spec/signerName", "<none>"),
        object.text("/spec/username").into(),
        asked.into(),
        status.into(),
    ]
}

fn api_service(object: Object<'_>) -> Vec<Value> {
    let service = match object.at("/spec/service") {
        Value::Null => "Local".to_owned(),
        service => {
            format!(
                "{}/{}",
                service["namespace"].as_str().unwrap_or_default(),
                service["name"].as_str().unwrap_or_default()
            )
        }
    };
    let available = object.list("/status/conditions").iter().find(|c| c["type"] == "Available");
    let status = match available {
        None => "Unknown".to_owned(),
        Some(c) if c["status"] == "True" => "True".to_owned(),
        Some(c) => {
            format!("{} ({})", c["status"].as_str().unwrap_or_default(), c["reason"].as_str().unwrap_or_default())
        }
    };
    vec![object.name(), service.into(), status.into(), object.age()]
}

fn claim_state(object: Object<'_>) -> String {
    let mut states = Vec::new();
    if object.is_leaving() {
        states.push("deleted");
    }
    if object.at("/status/allocation").is_null() {
        if !object.is_leaving() {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        if !object.list("/status/reservedFor").is_empty() {
            states.push("reserved");
        }
    }
    states.join(",")
}
