//! The environment of a container, and references to the pod's own fields.

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::names;
use crate::fault::Fault;

const ONE_AT_A_TIME: &str = "may not have more than one field specified at a time";

/// The fields of a pod that an environment variable may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields of a pod that a file may show.
pub(super) const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// The fields of a pod that can be named at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn variables(f: &mut Faults, at: &At<'_>) {
    for variable in at.items() {
        f.present_format(&variable.get("name"), names::env_name);
        value_from(f, &variable);
    }
}

fn value_from(f: &mut Faults, variable: &At<'_>) {
    let at = variable.get("valueFrom");
    if !at.is_set() {
        return;
    }
    let mut sources = 0;
    let mut source = |name| {
        let source = at.get(name);
        sources += usize::from(source.is_set());
        source
    };
    let (field, resource) = (source("fieldRef"), source("resourceFieldRef"));
    let keys = [source("configMapKeyRef"), source("secretKeyRef")];
    source("fileKeyRef");
    if field.is_set() {
        field_selector(f, &field, ENV_FIELDS);
    }
    if resource.is_set() {
        resource_selector(f, &resource, false);
    }
    for key in keys.iter().filter(|key| key.is_set()) {
        f.format(&key.get("name"), names::subdomain);
        f.present_format(&key.get("key"), names::config_key);
    }
    let complaint = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if !variable.get("value").is_zero() => "may not be specified when `value` is not empty",
        1 => return,
        _ => ONE_AT_A_TIME,
    };
    f.invalid_value(&at, "", complaint);
}

pub(super) fn sources(f: &mut Faults, at: &At<'_>) {
    for from in at.items() {
        f.optional_format(&from.get("prefix"), names::env_name);
        let sources = [from.get("configMapRef"), from.get("secretRef")];
        for source in sources.iter().filter(|source| source.is_set()) {
            f.present_format(&source.get("name"), names::subdomain);
        }
        match sources.iter().filter(|source| source.is_set()).count() {
            0 => f.invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => f.invalid_value(at, "", ONE_AT_A_TIME),
        }
    }
}

/// A reference to a field of the pod itself.
pub(super) fn field_selector(f: &mut Faults, at: &At<'_>, supported: &[&str]) {
    let (version, field) = (at.get("apiVersion"), at.get("fieldPath"));
    if !f.present(&version) || !f.present(&field) {
        return;
    }
    if version.str() != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", version.str());
        return f.invalid(&field, detail);
    }
    if let Some((map, key)) = field.str().strip_suffix("']").and_then(|path| path.split_once("['")) {
        match map {
            "metadata.annotations" => f.problems(at, key.to_lowercase(), names::qualified(&key.to_lowercase())),
            "metadata.labels" => f.problems(at, key, names::qualified(key)),
            other => f.invalid_value(
                &field,
                field.str(),
                format!("error converting fieldPath: field label does not support subscript: {other}"),
            ),
        }
    } else if !KNOWN_FIELDS.contains(&field.str()) {
        f.invalid(&field, format!("error converting fieldPath: field label not supported: {}", field.str()));
    } else {
        f.one_of(&field, supported);
    }
}

/// A reference to a request or a limit of a container.
pub(super) fn resource_selector(f: &mut Faults, at: &At<'_>, in_volume: bool) {
    let resource = at.get("resource");
    if in_volume && at.get("containerName").is_zero() {
        f.required(&at.get("containerName"), "");
    } else if resource.is_zero() {
        f.required(&resource, "");
    } else if !resource.str().starts_with("limits.hugepages-") && !resource.str().starts_with("requests.hugepages-") {
        f.one_of(&resource, RESOURCE_FIELDS);
    }
    divisor(f, at);
}

fn divisor(f: &mut Faults, at: &At<'_>) {
    const BYTES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let divisor = at.get("divisor");
    if matches!(divisor.str(), "" | "0") {
        return;
    }
    let (supported, listed, what): (&[&str], String, &str) = match at.text("resource").split_once('.') {
        Some((_, "cpu")) => (&["1m", "1"], "1m and 1".to_owned(), "cpu"),
        Some((_, "memory")) => (BYTES, BYTES.join(", "), "memory"),
        Some((_, "ephemeral-storage")) => (BYTES, BYTES.join(", "), "local ephemeral storage"),
        _ => return,
    };
    if !supported.contains(&divisor.str()) {
        let detail = format!("only divisor's values {listed} are supported with the {what} resource");
        f.add(Fault::invalid(divisor.path(), at.text("resource"), detail));
    }
}
