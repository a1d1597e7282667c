//! Volumes of pods and the sources they come from.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::names;
use super::super::quantities::amount;
use super::super::storage;
use super::env;
use super::mounts::{no_backsteps, unreserved_path};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks all volumes; answers the sound ones by name.
pub(super) fn volumes<'v>(f: &mut Faults, at: &At<'v>) -> BTreeMap<&'v str, &'v Value> {
    let mut sound = BTreeMap::new();
    for volume in at.items() {
        let before = f.count();
        source(f, &volume, SOURCES);
        let name = volume.get("name");
        f.present_format(&name, names::label);
        if sound.contains_key(name.str()) {
            f.duplicate(&name);
        }
        if f.count() == before {
            sound.insert(name.str(), volume.value);
        }
    }
    sound
}

/// A kind of source: the field it stands in, and its rules.
pub(crate) type Source = (&'static str, fn(&mut Faults, &At<'_>));

/// Exactly one source of those in the table.
pub(crate) fn source(f: &mut Faults, at: &At<'_>, sources: &[Source]) {
    let mut found = false;
    for (name, check) in sources {
        let source = at.get(name);
        if !source.is_set() {
            continue;
        }
        if found {
            f.forbidden(&source, "may not specify more than 1 volume type");
        } else {
            found = true;
            check(f, &source);
        }
    }
    if !found {
        f.required(at, "must specify a volume type");
    }
}

/// Every source a volume can have, in the order the real server looks at them.
const SOURCES: &[Source] = &[
    ("emptyDir", |f, at| {
        if amount(&at.get("sizeLimit")).is_some_and(sluice_model::quantity::Quantity::is_negative) {
            f.forbidden(&at.get("sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
    }),
    ("hostPath", host_path),
    ("gitRepo", |f, at| {
        f.present(&at.get("repository"));
    }),
    ("gcePersistentDisk", |f, at| {
        f.present(&at.get("pdName"));
    }),
    ("awsElasticBlockStore", |f, at| {
        f.present(&at.get("volumeID"));
    }),
    ("secret", |f, at| {
        f.present(&at.get("secretName"));
        keys_and_modes(f, at);
    }),
    ("nfs", nfs),
    ("iscsi", iscsi),
    ("glusterfs", |f, at| {
        f.present(&at.get("endpoints"));
        f.present(&at.get("path"));
    }),
    ("flocker", |_, _| {}),
    ("persistentVolumeClaim", |f, at| {
        f.present(&at.get("claimName"));
    }),
    ("rbd", |f, at| {
        f.present(&at.get("monitors"));
        f.present(&at.get("image"));
    }),
    ("cinder", |f, at| {
        f.present(&at.get("volumeID"));
    }),
    ("cephfs", |f, at| {
        f.present(&at.get("monitors"));
    }),
    ("quobyte", |f, at| {
        f.present(&at.get("registry"));
        f.present(&at.get("volume"));
    }),
    ("downwardAPI", downward_api),
    ("fc", |_, _| {}),
    ("flexVolume", |f, at| {
        f.present(&at.get("driver"));
    }),
    ("configMap", |f, at| {
        f.present(&at.get("name"));
        keys_and_modes(f, at);
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
    ("storageos", |_, _| {}),
    ("projected", projected),
    ("scaleIO", |f, at| {
        for field in ["gateway", "system", "volumeName"] {
            f.present(&at.get(field));
        }
    }),
    ("csi", |f, at| csi_driver_name(f, &at.get("driver"))),
    ("ephemeral", |f, at| {
        let template = at.get("volumeClaimTemplate");
        if template.is_set() {
            storage::claim_spec(f, &template.get("spec"));
        } else {
            f.required(&template, "");
        }
    }),
    ("image", |f, at| {
        f.optional_one_of(&at.get("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
    }),
];

pub(crate) fn host_path(f: &mut Faults, at: &At<'_>) {
    if !f.present(&at.get("path")) {
        return;
    }
    no_backsteps(f, &at.get("path"));
    const TYPES: &[&str] =
        &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    f.optional_one_of(&at.get("type"), TYPES);
}

pub(crate) fn nfs(f: &mut Faults, at: &At<'_>) {
    f.present(&at.get("server"));
    let path = at.get("path");
    f.present(&path);
    if !path.str().starts_with('/') {
        f.invalid_value(&path, path.str(), "must be an absolute path");
    }
}

pub(crate) fn iscsi(f: &mut Faults, at: &At<'_>) {
    f.present(&at.get("targetPortal"));
    let iqn = at.get("iqn");
    if f.present(&iqn) && !["iqn", "eui", "naa"].iter().any(|prefix| iqn.str().starts_with(prefix)) {
        f.invalid(&iqn, "must be valid format starting with iqn, eui, or naa");
    }
    let lun = at.get("lun");
    if !(0..=255).contains(&lun.int_or(0)) {
        f.invalid(&lun, "must be between 0 and 255, inclusive");
    }
}

pub(crate) fn csi_driver_name(f: &mut Faults, at: &At<'_>) {
    if !f.present(at) {
        return;
    }
    if at.str().len() > names::LABEL_MAX {
        f.too_long(at, names::LABEL_MAX);
    }
    f.problems(at, at.str(), names::subdomain(&at.str().to_lowercase()));
}

fn mode(f: &mut Faults, at: &At<'_>) {
    if !(0..=0o777).contains(&at.int_or(0)) {
        f.invalid(at, MODE);
    }
}

/// `items` and `defaultMode` of a ConfigMap or a Secret.
fn keys_and_modes(f: &mut Faults, at: &At<'_>) {
    mode(f, &at.get("defaultMode"));
    for item in at.get("items").items() {
        key_to_path(f, &item);
    }
}

fn key_to_path(f: &mut Faults, item: &At<'_>) {
    f.present(&item.get("key"));
    f.present(&item.get("path"));
    unreserved_path(f, &item.get("path"));
    mode(f, &item.get("mode"));
}

fn downward_api(f: &mut Faults, at: &At<'_>) {
    mode(f, &at.get("defaultMode"));
    for item in at.get("items").items() {
        downward_file(f, &at.with(item.value));
    }
}

/// One file; the real server names its faults after the volume, without an index.
fn downward_file(f: &mut Faults, file: &At<'_>) {
    f.present(&file.get("path"));
    unreserved_path(f, &file.get("path"));
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    if field.is_set() {
        env::field_selector(f, &field, env::FILE_FIELDS);
        if resource.is_set() {
            f.invalid_value(file, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if resource.is_set() {
        env::resource_selector(f, &resource, true);
    } else {
        f.required(file, "one of fieldRef and resourceFieldRef is required");
    }
    mode(f, &file.get("mode"));
}

fn projected(f: &mut Faults, at: &At<'_>) {
    mode(f, &at.get("defaultMode"));
    let mut paths = BTreeSet::new();
    for part in at.get("sources").items() {
        let mut found = 0;
        for (name, items_of) in [("secret", "secret"), ("configMap", "configMap")] {
            let source = part.get(name);
            if !source.is_set() {
                continue;
            }
            found += 1;
            if found > 1 {
                f.forbidden(&part.get(items_of), "may not specify more than 1 volume type");
                continue;
            }
            f.present(&source.get("name"));
            for item in source.get("items").items() {
                key_to_path(f, &item);
                claim_path(f, at, &mut paths, item.text("path"), source.text("name"));
            }
        }
        for item in part.dig(&["downwardAPI", "items"]).items() {
            downward_file(f, &at.with(item.value));
            claim_path(f, at, &mut paths, item.text("path"), "downwardAPI");
        }
        let token = part.get("serviceAccountToken");
        if token.is_set() {
            token_source(f, &token, at);
            claim_path(f, at, &mut paths, token.text("path"), token.text("path"));
        }
    }
}

/// Two files of one projected volume may not have one path.
fn claim_path<'v>(f: &mut Faults, at: &At<'v>, paths: &mut BTreeSet<&'v str>, path: &'v str, named: &str) {
    if !path.is_empty() && !paths.insert(path) {
        f.invalid_value(at, named, "conflicting duplicate paths");
    }
}

/// The real server names the path of a token after the volume.
fn token_source(f: &mut Faults, token: &At<'_>, volume: &At<'_>) {
    let expiration = token.get("expirationSeconds");
    match expiration.int() {
        Some(seconds) if seconds < 600 => f.invalid(&expiration, "may not specify a duration less than 10 minutes"),
        Some(seconds) if seconds > 1 << 32 => {
            f.invalid(&expiration, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
    let path = volume.get("path").with(token.get("path").value);
    if f.present(&path) {
        unreserved_path(f, &path);
    }
}
