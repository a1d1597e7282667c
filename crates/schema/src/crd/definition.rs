//! Judges definitions themselves: names, versions, subresources; the schemas are judged in `structure`.

mod rules;
mod structure;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::check::fault;
use crate::fault::{Fault, FaultKind};

const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const DNS_1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const MAX_LABEL: usize = 63;
const MAX_SELECTABLE_FIELDS: usize = 8;

static LABEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[a-z]([-a-z0-9]*[a-z0-9])?$").expect("the pattern is valid"));
static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").expect("the pattern is valid")
});

/// What a definition is filled up with when it is created: the names that follow from others, the conversion, and a status.
pub fn apply_definition_defaults(definition: &mut Value) {
    if let Some(spec) = definition.get_mut("spec").filter(|spec| spec.is_object()) {
        let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
        if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut).filter(|_| !kind.is_empty()) {
            let missing = |v: Option<&Value>| v.and_then(Value::as_str).is_none_or(str::is_empty);
            if missing(names.get("singular")) {
                names.insert("singular".into(), kind.to_lowercase().into());
            }
            if missing(names.get("listKind")) {
                names.insert("listKind".into(), format!("{kind}List").into());
            }
        }
        if !spec["conversion"].is_object() {
            spec["conversion"] = json!({"strategy": "None"});
        }
        webhook_defaults(&mut spec["conversion"]);
    }
    let stored: Vec<Value> = storage_versions(&definition["spec"]);
    let Some(fields) = definition.as_object_mut() else { return };
    let status = fields.entry("status").or_insert(Value::Null);
    if !status.is_object() {
        *status = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null});
    }
    if status["storedVersions"].as_array().is_none_or(Vec::is_empty) {
        status["storedVersions"] = if stored.is_empty() { Value::Null } else { Value::Array(stored) };
    } else if let (Some(list), [new]) = (status["storedVersions"].as_array_mut(), stored.as_slice())
        && !list.contains(new)
    {
        list.push(new.clone());
    }
}

fn webhook_defaults(conversion: &mut Value) {
    if let Some(service) = conversion.pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut) {
        service.entry("port").or_insert(json!(443));
    }
}

fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn storage_versions(spec: &Value) -> Vec<Value> {
    versions(spec).iter().filter(|v| v["storage"] == true).map(|v| v["name"].clone()).collect()
}

/// Everything wrong with a definition that is created.
pub fn check_definition(definition: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    let spec = &definition["spec"];
    let name = text(&definition["metadata"]["name"]);
    let (plural, group) = (text(&spec["names"]["plural"]), text(&spec["group"]));
    if !name.is_empty() && !SUBDOMAIN.is_match(name) {
        faults.invalid("metadata.name", json!(name), DNS_1123_SUBDOMAIN);
    }
    if name != format!("{plural}.{group}") {
        faults.invalid("metadata.name", json!(name), "must be spec.names.plural+\".\"+spec.group");
    }
    check_spec(spec, &mut faults);
    check_stored(definition, &mut faults);
    faults.0
}

/// Everything wrong with a definition that replaces `old`.
pub fn check_definition_update(definition: &Value, old: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    let (spec, before) = (&definition["spec"], &old["spec"]);
    check_spec(spec, &mut faults);
    for (path, new, old) in [
        ("spec.scope", &spec["scope"], &before["scope"]),
        ("spec.group", &spec["group"], &before["group"]),
        ("spec.names.plural", &spec["names"]["plural"], &before["names"]["plural"]),
        ("spec.names.kind", &spec["names"]["kind"], &before["names"]["kind"]),
    ] {
        if new != old && is_established(old_status(definition)) {
            faults.invalid(path, new.clone(), "field is immutable");
        }
    }
    check_stored(definition, &mut faults);
    faults.0
}

fn old_status(definition: &Value) -> &Value {
    &definition["status"]
}

fn is_established(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Established" && c["status"] == "True")
}

fn check_spec(spec: &Value, faults: &mut Faults) {
    let group = text(&spec["group"]);
    if group.is_empty() {
        faults.required("spec.group", "");
    } else if !SUBDOMAIN.is_match(group) {
        faults.invalid("spec.group", json!(group), DNS_1123_SUBDOMAIN);
    } else if !group.contains('.') {
        faults.invalid("spec.group", json!(group), "should be a domain with at least one dot");
    }
    match text(&spec["scope"]) {
        "" => faults.required("spec.scope", ""),
        "Cluster" | "Namespaced" => {}
        other => faults.unsupported("spec.scope", other, &["Cluster", "Namespaced"]),
    }
    check_versions(spec, faults);
    check_names(&spec["names"], "spec.names", faults);
}

fn check_versions(spec: &Value, faults: &mut Faults) {
    let versions = versions(spec);
    let alone = versions.len() == 1;
    for (n, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{n}]");
        if !is_label(text(&version["name"])) {
            faults.invalid(&format!("{path}.name"), version["name"].clone(), DNS_1035);
        }
        check_deprecation(version, &path, faults);
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() && spec["preserveUnknownFields"] != true {
            faults.required(&format!("{path}.schema.openAPIV3Schema"), "");
        }
        // The server folds what only one version says into places of an older layout, and names those.
        let schema_path =
            if alone { "spec.validation.openAPIV3Schema".into() } else { format!("{path}.schema.openAPIV3Schema") };
        let base = if alone { "spec".to_owned() } else { path };
        structure::check(schema, &schema_path, faults);
        check_subresources(&version["subresources"], &format!("{base}.subresources"), faults);
        check_selectable(version, schema, &base, faults);
    }
    if storage_versions(spec).len() != 1 {
        faults.invalid(
            "spec.versions",
            spec["versions"].clone(),
            "must have exactly one version marked as storage version",
        );
    }
    let names: BTreeSet<&str> = versions.iter().map(|v| text(&v["name"])).collect();
    if names.len() != versions.len() {
        faults.invalid("spec.versions", spec["versions"].clone(), "must contain unique version names");
    }
}

fn check_deprecation(version: &Value, path: &str, faults: &mut Faults) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let path = format!("{path}.deprecationWarning");
    if version["deprecated"] != true {
        faults.invalid(&path, json!(warning), "can only be set for deprecated versions");
    }
    if warning.is_empty() {
        faults.invalid(&path, json!(warning), "must not be an empty string");
    }
    if let Some(index) = warning.find(char::is_control) {
        let why =
            format!("must only contain printable UTF-8 characters; non-printable character found at index {index}");
        faults.invalid(&path, json!(warning), &why);
    }
}

fn check_subresources(subresources: &Value, path: &str, faults: &mut Faults) {
    let scale = &subresources["scale"];
    if !scale.is_object() {
        return;
    }
    for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = format!("{path}.scale.{field}");
        match text(&scale[field]) {
            "" => faults.required(&path, ""),
            given if !given.starts_with('.') => {
                faults.invalid(&path, json!(given), "must be a simple json path starting with .");
            }
            given if !given.starts_with(below) => {
                let why = format!("should be a json path under {}", below.trim_end_matches('.'));
                faults.invalid(&path, json!(given), &why);
            }
            _ => {}
        }
    }
    let selector = text(&scale["labelSelectorPath"]);
    if !selector.is_empty() && !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
        let why = "should be a json path under either .spec or .status";
        faults.invalid(&format!("{path}.scale.labelSelectorPath"), json!(selector), why);
    }
}

fn check_selectable(version: &Value, schema: &Value, base: &str, faults: &mut Faults) {
    let fields = version["selectableFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    if fields.len() > MAX_SELECTABLE_FIELDS {
        let why = format!("must have at most {MAX_SELECTABLE_FIELDS} items");
        faults.add(&format!("{base}.selectableFields"), FaultKind::TooMany, Some(json!(fields.len())), &why);
        return;
    }
    let mut seen = BTreeSet::new();
    for (n, field) in fields.iter().enumerate() {
        let path = format!("{base}.selectableFields[{n}].jsonPath");
        let given = text(&field["jsonPath"]);
        if given.is_empty() {
            faults.required(&path, "");
            continue;
        }
        if let Err(why) = selectable_type(schema, given) {
            faults.invalid(&path, json!(given), &why);
        }
        if !seen.insert(given) {
            faults.add(&path, FaultKind::Duplicate, Some(json!(given)), "");
        }
    }
}

/// Whether a selectable field's path leads to a scalar that can be compared.
fn selectable_type(schema: &Value, path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('.') else {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        return Err(format!("is an invalid path: expected [ or . but got: {first}"));
    };
    if rest.contains('[') {
        return Err("is an invalid path: array notation is not allowed".into());
    }
    let unknown = || "is an invalid path: does not refer to a valid field".to_owned();
    let mut at = schema;
    for (n, name) in rest.split('.').enumerate() {
        if n == 0 && name == "metadata" {
            return Err(unknown());
        }
        at = at["properties"]
            .get(name)
            .or(at.get("additionalProperties").filter(|a| a.is_object()))
            .ok_or_else(unknown)?;
    }
    match text(&at["type"]) {
        "string" | "boolean" | "integer" => Ok(()),
        _ => Err("must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.".into()),
    }
}

fn check_names(names: &Value, path: &str, faults: &mut Faults) {
    for field in ["plural", "singular"] {
        match text(&names[field]) {
            "" => faults.required(&format!("{path}.{field}"), ""),
            name if !is_label(name) => faults.invalid(&format!("{path}.{field}"), json!(name), DNS_1035),
            _ => {}
        }
    }
    for field in ["kind", "listKind"] {
        match text(&names[field]) {
            "" => faults.required(&format!("{path}.{field}"), ""),
            name if !is_label(&name.to_lowercase()) => {
                let why = format!("may have mixed case, but should otherwise match: {DNS_1035}");
                faults.invalid(&format!("{path}.{field}"), json!(name), &why);
            }
            _ => {}
        }
    }
    for field in ["shortNames", "categories"] {
        for (n, name) in names[field].as_array().into_iter().flatten().enumerate() {
            if !is_label(text(name)) {
                faults.invalid(&format!("{path}.{field}[{n}]"), name.clone(), DNS_1035);
            }
        }
    }
    let (kind, list) = (text(&names["kind"]), text(&names["listKind"]));
    if !kind.is_empty() && kind == list {
        faults.invalid(&format!("{path}.listKind"), json!(list), "kind and listKind may not be the same");
    }
}

fn check_stored(definition: &Value, faults: &mut Faults) {
    let path = "status.storedVersions";
    let stored = &definition["status"]["storedVersions"];
    let list = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        faults.invalid(path, stored.clone(), "must have at least one stored version");
        return;
    }
    for storage in storage_versions(&definition["spec"]).iter().filter(|v| !list.contains(v)).take(1) {
        faults.invalid(path, stored.clone(), &format!("must have the storage version {}", text(storage)));
    }
    let known: Vec<&Value> = versions(&definition["spec"]).iter().map(|v| &v["name"]).collect();
    for (n, version) in list.iter().enumerate().filter(|(_, v)| !known.contains(v)) {
        let why = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"
            .replace("v1", text(version));
        faults.invalid(&format!("{path}[{n}]"), version.clone(), &why);
    }
}

fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && LABEL.is_match(name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Faults as they are found.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, kind: FaultKind, value: Option<Value>, detail: &str) {
        self.0.push(fault(path, kind, value, detail));
    }

    fn invalid(&mut self, path: &str, value: Value, detail: &str) {
        self.add(path, FaultKind::Invalid, Some(value), detail);
    }

    /// An invalid value that is printed as `shown`.
    fn shown(&mut self, path: &str, shown: &str, detail: &str) {
        self.0.push(Fault::shown(path, FaultKind::Invalid, shown, detail));
    }

    fn required(&mut self, path: &str, detail: &str) {
        self.add(path, FaultKind::Required, None, detail);
    }

    fn forbidden(&mut self, path: &str, detail: &str) {
        self.add(path, FaultKind::Forbidden, None, detail);
    }

    fn unsupported(&mut self, path: &str, value: &str, supported: &[&str]) {
        let names: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        self.add(path, FaultKind::NotSupported, Some(json!(value)), &format!("supported values: {}", names.join(", ")));
    }
}
