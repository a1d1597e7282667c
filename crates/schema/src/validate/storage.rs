//! Claims, volumes and their classes.

use super::check::Faults;
use super::cursor::At;
use super::pod::volumes;
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
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    if source.is_set() && reference.is_set() && !reference.has("namespace") && source.value != reference.value {
        f.invalid_shown(spec, "{}", "must match dataSourceRef");
    }
    f.optional_format(&spec.get("volumeAttributesClassName"), names::subdomain);
}

const CLAIM_CHANGES: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub(crate) fn claim(f: &mut Faults, object: &At<'_>) {
    claim_spec(f, &object.get("spec"));
}

pub(crate) fn claim_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    claim(f, new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let mut allowed = spec.value.clone();
    let mut put_back = |field: &str| match (before.value.get(field), allowed.as_object_mut()) {
        (Some(value), Some(map)) => drop(map.insert(field.to_owned(), value.clone())),
        (None, Some(map)) => drop(map.remove(field)),
        _ => {}
    };
    put_back("volumeAttributesClassName");
    if before.get("volumeName").is_zero() {
        put_back("volumeName");
    }
    if !before.has("storageClassName") {
        put_back("storageClassName");
    }
    let size = |at: &At<'_>| amount(&at.dig(&["resources", "requests", "storage"]));
    let bound = old.dig(&["status", "phase"]).str() == "Bound";
    let grows = size(&spec) >= size(&before);
    if bound && grows {
        put_back("resources");
    }
    if allowed != *before.value {
        let diff = crate::go::diff("PersistentVolumeClaimSpec", before.value, &allowed);
        f.forbidden(&spec, format!("{CLAIM_CHANGES}\n{diff}"));
    }
    // The real server names this place without the specification.
    f.immutable(&new.get("volumeMode").with(spec.get("volumeMode").value), &before.get("volumeMode"));
}

pub(crate) fn claim_status(f: &mut Faults, object: &At<'_>) {
    for (name, quantity) in object.dig(&["status", "capacity"]).entries() {
        if let Some(size) = amount(&quantity).filter(|size| size.is_negative()) {
            let at = object.dig(&["status", "capacity"]).key(name);
            f.invalid_value(&at, size.value(), "must be a valid resource quantity");
        }
    }
}

/// What a persistent volume can be made of.
const VOLUME_SOURCES: &[volumes::Source] = &[
    ("hostPath", volumes::host_path),
    ("gcePersistentDisk", |f, at| {
        f.present(&at.get("pdName"));
    }),
    ("awsElasticBlockStore", |f, at| {
        f.present(&at.get("volumeID"));
    }),
    ("glusterfs", |f, at| {
        f.present(&at.get("endpoints"));
        f.present(&at.get("path"));
    }),
    ("flocker", |_, _| {}),
    ("nfs", volumes::nfs),
    ("rbd", |f, at| {
        f.present(&at.get("monitors"));
        f.present(&at.get("image"));
    }),
    ("quobyte", |_, _| {}),
    ("cephfs", |f, at| {
        f.present(&at.get("monitors"));
    }),
    ("iscsi", volumes::iscsi),
    ("cinder", |f, at| {
        f.present(&at.get("volumeID"));
    }),
    ("fc", |_, _| {}),
    ("flexVolume", |f, at| {
        f.present(&at.get("driver"));
    }),
    ("azureFile", |f, at| {
        f.present(&at.get("secretName"));
        f.present(&at.get("shareName"));
    }),
    ("vsphereVolume", |f, at| {
        f.present(&at.get("volumePath"));
    }),
    ("photonPersistentDisk", |f, at| {
        f.present(&at.get("pdID"));
    }),
    ("portworxVolume", |f, at| {
        f.present(&at.get("volumeID"));
    }),
    ("azureDisk", |f, at| {
        f.present(&at.get("diskName"));
        f.present(&at.get("diskURI"));
    }),
    ("scaleIO", |_, _| {}),
    ("local", |f, at| {
        f.present(&at.get("path"));
    }),
    ("storageos", |_, _| {}),
    ("csi", |f, at| {
        volumes::csi_driver_name(f, &at.get("driver"));
        f.present(&at.get("volumeHandle"));
    }),
];

pub(crate) fn volume(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let (modes, capacity) = (spec.get("accessModes"), spec.get("capacity"));
    if modes.is_zero() {
        f.required(&modes, "");
    }
    access_modes(f, &modes);
    if capacity.is_zero() {
        f.required(&capacity, "");
    }
    if capacity.map().is_none_or(|map| !map.contains_key("storage") || map.len() > 1) {
        f.unsupported(&capacity, &["storage"]);
    }
    for (_, quantity) in capacity.entries() {
        if amount(&quantity).is_some_and(|size| size.is_zero() || size.is_negative()) {
            f.invalid(&quantity, "must be greater than zero");
        }
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    f.optional_one_of(&policy, &["Delete", "Recycle", "Retain"]);
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.get("required");
        if required.is_set() {
            selector::node_selector(f, &required);
        } else {
            f.required(&required, "must specify required node constraints");
        }
    }
    volumes::source(f, &spec, VOLUME_SOURCES);
    if spec.has("local") && !affinity.is_set() {
        f.required(&affinity, "Local volume requires node affinity");
    }
    if policy.str() == "Recycle"
        && spec.get("hostPath").text("path").trim_end_matches('/').is_empty()
        && spec.has("hostPath")
    {
        f.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    f.optional_format(&spec.get("storageClassName"), names::subdomain);
    f.optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"]);
}

pub(crate) fn volume_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    volume(f, new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    if VOLUME_SOURCES.iter().any(|(name, _)| spec.get(name).value != before.get(name).value) {
        let diff = crate::go::diff("PersistentVolumeSource", before.value, spec.value);
        let at = new.dig(&["spec", "persistentvolumesource"]);
        f.forbidden(&at, format!("spec.persistentvolumesource is immutable after creation\n{diff}"));
    }
    let (mode, was) = (spec.get("volumeMode"), before.get("volumeMode"));
    // The real server names this place without the specification.
    f.immutable(&new.get("volumeMode").with(mode.value), &was);
}

pub(crate) fn class(f: &mut Faults, object: &At<'_>) {
    let provisioner = object.get("provisioner");
    if provisioner.is_zero() {
        f.required(&provisioner, "");
    } else {
        f.problems(&provisioner, provisioner.str(), names::qualified(&provisioner.str().to_lowercase()));
    }
    let parameters = object.get("parameters");
    if parameters.map().is_some_and(|map| map.contains_key("")) {
        f.invalid_value(&parameters, "", "field can not be empty.");
    }
    f.optional_one_of(&object.get("reclaimPolicy"), &["Delete", "Retain"]);
    f.present_one_of(&object.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
    for topology in object.get("allowedTopologies").items() {
        for expression in topology.get("matchLabelExpressions").items() {
            let values = expression.get("values");
            if values.is_zero() {
                f.required(&values, "");
            }
            f.format(&expression.get("key"), names::qualified);
        }
    }
}

pub(crate) fn class_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        let (at, was) = (new.get(field), old.get(field));
        if at.value != was.value && !(at.is_zero() && was.is_zero()) {
            f.forbidden(&at, format!("updates to {field} are forbidden."));
        }
    }
    f.immutable(&new.get("volumeBindingMode"), &old.get("volumeBindingMode"));
}

pub(crate) fn attributes_class_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    for field in ["driverName", "parameters"] {
        let (at, was) = (new.get(field), old.get(field));
        if at.value != was.value {
            f.forbidden(&at, format!("updates to {field} are forbidden."));
        }
    }
}

pub(crate) fn driver(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.one_of(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = std::collections::BTreeSet::new();
    for request in spec.get("tokenRequests").items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !audiences.insert(audience.str()) {
            f.duplicate(&audience);
        }
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            f.invalid(&seconds, "may not specify a duration less than 10 minutes");
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items() {
        f.one_of(&modes.with(mode.value), &["Persistent", "Ephemeral"]);
    }
}

pub(crate) fn driver_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    driver(f, new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let attach = spec.get("attachRequired");
    if attach.value != before.get("attachRequired").value {
        f.invalid(&spec.get("attachedRequired").with(attach.value), super::check::IMMUTABLE);
    }
}

pub(crate) fn attachment(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.present(&spec.get("attacher"));
    let source = spec.get("source");
    let given = ["inlineVolumeSpec", "persistentVolumeName"].iter().filter(|name| source.has(name)).count();
    match given {
        0 => f.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        1 => {}
        _ => f.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
    }
    f.format(&spec.get("nodeName"), names::subdomain);
    // Said once more where the name of the driver is checked.
    volumes::csi_driver_name(f, &spec.get("attacher"));
}

pub(crate) fn attachment_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    f.immutable_shown(&new.get("spec"), &old.get("spec"), |value| crate::go::print("VolumeAttachmentSpec", value));
}

pub(crate) fn capacity(f: &mut Faults, object: &At<'_>) {
    f.format(&object.get("storageClassName"), names::subdomain);
    super::quantities::not_negative(f, &object.get("capacity"));
}
