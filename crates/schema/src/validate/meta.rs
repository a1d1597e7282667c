//! `metadata` of every kind: names, labels, annotations, owners, finalizers, managed fields.

use serde_json::Value;

use super::check::{Faults, in_order};
use super::cursor::At;
use super::names::{self, Problems};

/// All annotations of an object together may have this many bytes.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;

/// How the names of a kind are checked, and where it lives.
pub(crate) struct Naming {
    pub(crate) namespaced: bool,
    pub(crate) name: fn(&str) -> Problems,
    /// Whether finalizers without a domain are refused: all built-in kinds do.
    pub(crate) known_finalizers: bool,
}

/// Metadata of an object that is about to be created.
pub(crate) fn create(f: &mut Faults, object: &At<'_>, naming: &Naming) {
    let meta = object.get("metadata");
    let (name, prefix) = (meta.get("name"), meta.get("generateName"));
    if !prefix.is_zero() {
        f.problems(&prefix, prefix.str(), (naming.name)(&without_trailing_dash(prefix.str())));
    }
    if name.is_zero() {
        f.required(&name, "name or generateName is required");
    } else {
        f.format(&name, naming.name);
    }
    let namespace = meta.get("namespace");
    match (naming.namespaced, namespace.is_zero()) {
        (true, true) => f.required(&namespace, ""),
        (true, false) => f.format(&namespace, names::label),
        (false, false) => f.forbidden(&namespace, "not allowed on this type"),
        (false, true) => {}
    }
    f.not_negative(&meta.get("generation"));
    common(f, &meta);
    finalizers(f, &meta, naming);
    managed_fields(f, &meta.get("managedFields"));
}

/// Metadata of an object that replaces `old`: what every kind checks before it looks at its own rules.
pub(crate) fn update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (new, old) = (new.get("metadata"), old.get("metadata"));
    if old.has("deletionTimestamp") {
        no_new_finalizers(f, &new.get("finalizers"), &old.get("finalizers"));
    }
    if new.get("generation").int_or(0) < old.get("generation").int_or(0) {
        f.invalid(&new.get("generation"), "must not be decremented");
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        f.immutable(&new.get(field), &old.get(field));
    }
    common(f, &new);
    managed_fields(f, &new.get("managedFields"));
}

/// Metadata of an update, once more as each built-in kind does itself: the real server checks most of it several times,
/// which shows in the number of causes.
pub(crate) fn update_of_kind(f: &mut Faults, new: &At<'_>, old: &At<'_>, naming: &Naming) {
    update(f, new, old);
    let meta = new.get("metadata");
    common(f, &meta);
    managed_fields(f, &meta.get("managedFields"));
    finalizers(f, &meta, naming);
}

fn common(f: &mut Faults, meta: &At<'_>) {
    labels(f, &meta.get("labels"));
    annotations(f, &meta.get("annotations"));
    owners(f, &meta.get("ownerReferences"));
}

/// `web-` stands for names that go on: its last character is no fault.
fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut name = rest.to_owned();
            name.pop();
            name.push('a');
            name
        }
        _ => prefix.to_owned(),
    }
}

pub(crate) fn labels(f: &mut Faults, at: &At<'_>) {
    for (key, value) in at.entries() {
        f.problems(at, key, names::qualified(key));
        f.problems(at, value.str(), names::label_value(value.str()));
    }
}

pub(crate) fn annotations(f: &mut Faults, at: &At<'_>) {
    let mut size = 0;
    for (key, value) in at.entries() {
        f.problems(at, key, names::qualified(&key.to_lowercase()));
        size += key.len() + value.str().len();
    }
    if size > ANNOTATIONS_MAX {
        f.too_long(at, ANNOTATIONS_MAX);
    }
}

const OWNER_FIELDS: &[&str] = &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];

fn owners(f: &mut Faults, at: &At<'_>) {
    let mut first_controller: Option<String> = None;
    for owner in at.items() {
        // Paths of owners carry no index.
        let owner = at.with(owner.value);
        let (group, version) = owner.text("apiVersion").split_once('/').unwrap_or(("", owner.text("apiVersion")));
        if version.is_empty() || version.contains('/') {
            f.invalid_value(&owner.get("apiVersion"), owner.text("apiVersion"), "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.text(field).is_empty() {
                f.invalid_value(&owner.get(field), "", "must not be empty");
            }
        }
        if group.is_empty() && version == "v1" && owner.text("kind") == "Event" {
            f.invalid_shown(
                at,
                &in_order(owner.value, OWNER_FIELDS),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if owner.get("controller").bool() {
            let name = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &first_controller {
                None => first_controller = Some(name),
                Some(first) => {
                    let all: Vec<String> = at.list().iter().map(|owner| in_order(owner, OWNER_FIELDS)).collect();
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    );
                    f.invalid_shown(at, &format!("[{}]", all.join(",")), &detail);
                }
            }
        }
    }
}

fn finalizers(f: &mut Faults, meta: &At<'_>, naming: &Naming) {
    let at = meta.get("finalizers");
    let has = |name: &str| at.list().iter().any(|finalizer| finalizer == name);
    for finalizer in at.items() {
        f.problems(&at, finalizer.str(), names::qualified(finalizer.str()));
    }
    if has("orphan") && has("foregroundDeletion") {
        f.invalid(&at, "finalizer orphan and foregroundDeletion cannot be both set");
    }
    for finalizer in at.items().filter(|_| naming.known_finalizers) {
        if !names::is_known_finalizer(finalizer.str()) {
            f.invalid(&finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}

fn no_new_finalizers(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let mut added: Vec<&str> =
        new.list().iter().filter(|name| !old.list().contains(name)).filter_map(Value::as_str).collect();
    if added.is_empty() {
        return;
    }
    added.sort_unstable();
    let added: Vec<String> = added.into_iter().map(crate::fault::quote).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    f.forbidden(new, detail);
}

fn managed_fields(f: &mut Faults, at: &At<'_>) {
    for entry in at.items() {
        if !matches!(entry.text("operation"), "Apply" | "Update") {
            f.invalid_value(&entry.get("operation"), entry.text("operation"), "must be `Apply` or `Update`");
        }
        if !matches!(entry.text("fieldsType"), "" | "FieldsV1") {
            f.invalid(&entry.get("fieldsType"), "must be `FieldsV1`");
        }
        if entry.text("manager").len() > MANAGER_MAX {
            f.too_long(&entry.get("manager"), MANAGER_MAX);
        }
        if entry.text("subresource").len() > SUBRESOURCE_MAX {
            f.too_long(&entry.get("subresource"), SUBRESOURCE_MAX);
        }
    }
}
