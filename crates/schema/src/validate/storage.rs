//! Claims, volumes and their classes.

use super::check::Faults;
use super::cursor::At;
use super::quantities::amount;
use super::{names, selector};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn access_modes(f: &mut Faults, at: &At<'_>) {
    let mut once = false;
    for mode in at.items() {
        // The real server names the list, not the item.
        if !MODES.contains(&mode.str()) {
            f.unsupported(&at.with(mode.value), MODES);
        }
        once |= mode.str() == "ReadWriteOncePod";
    }
    if once && at.list().len() > 1 {
        f.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The specification of a claim, on its own or inside a pod.
pub(crate) fn claim_spec(f: &mut Faults, spec: &At<'_>) {
    let modes = spec.get("accessModes");
    if modes.is_zero() {
        f.required(&modes, "at least 1 access mode is required");
    }
    selector::label_selector(f, &spec.get("selector"));
    access_modes(f, &modes);
    let storage = spec.dig(&["resources", "requests", "storage"]);
    let shown = spec.get("resources").key("storage").with(storage.value);
    match amount(&storage) {
        None => f.required(&shown, ""),
        Some(size) if size.is_zero() || size.is_negative() => {
            f.invalid_value(&shown, size.to_string(), "must be greater than zero");
        }
        Some(_) => {}
    }
    f.optional_format(&spec.get("storageClassName"), names::subdomain);
    f.optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"]);
    for field in ["dataSource", "dataSourceRef"].map(|name| spec.get(name)).iter().filter(|at| at.is_set()) {
        f.present(&field.get("name"));
        f.present(&field.get("kind"));
        if field.get("apiGroup").is_zero() && !matches!(field.text("kind"), "" | "PersistentVolumeClaim") {
            f.invalid(&field.get("kind"), "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
        }
    }
    f.optional_format(&spec.get("volumeAttributesClassName"), names::subdomain);
}
