//! What containers mount, and the paths they may name.

use std::collections::BTreeSet;

use super::super::check::Faults;
use super::super::cursor::At;
use super::containers::Pod;

/// Must not lead up: no `..` among its parts.
pub(crate) fn no_backsteps(f: &mut Faults, at: &At<'_>) {
    if at.str().split('/').any(|part| part == "..") {
        f.invalid(at, "must not contain '..'");
    }
}

/// Must be relative and not lead up.
pub(crate) fn descending_path(f: &mut Faults, at: &At<'_>) {
    if at.str().starts_with('/') {
        f.invalid(at, "must be a relative path");
    }
    no_backsteps(f, at);
}

/// Like [`descending_path`], and not a name that the volume plugins keep for themselves.
pub(crate) fn unreserved_path(f: &mut Faults, at: &At<'_>) {
    descending_path(f, at);
    if at.str().starts_with("..") && !at.str().starts_with("../") && at.str() != ".." {
        f.invalid(at, "must not start with '..'");
    }
}

pub(super) fn volume_mounts(f: &mut Faults, container: &At<'_>, pod: &Pod<'_>) {
    let at = container.get("volumeMounts");
    let devices = container.get("volumeDevices");
    let mut paths = BTreeSet::new();
    for mount in at.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        f.present(&name);
        if !pod.volumes.contains_key(name.str()) {
            f.add(crate::fault::Fault::not_found(name.path(), name.str(), ""));
        }
        f.present(&path);
        if !paths.insert(path.str()) {
            f.invalid_value(&path, path.str(), "must be unique");
        }
        if devices.list().iter().any(|device| device["name"] == *name.value) {
            f.invalid(&name, "must not already exist in volumeDevices");
        }
        if devices.list().iter().any(|device| device["devicePath"] == *path.value) {
            f.invalid(&path, "must not already exist as a path in volumeDevices");
        }
        // The real server names these places without the index.
        let unindexed = |field| at.get(field).with(mount.get(field).value);
        descending_path(f, &unindexed("subPath"));
        if !mount.get("subPathExpr").is_zero() {
            if !mount.get("subPath").is_zero() {
                f.invalid(&mount.get("subPathExpr"), "subPathExpr and subPath are mutually exclusive");
            }
            descending_path(f, &unindexed("subPathExpr"));
        }
        propagation(f, &unindexed("mountPropagation"), container);
        recursive_read_only(f, &unindexed("recursiveReadOnly"), &mount);
    }
}

fn propagation(f: &mut Faults, at: &At<'_>, container: &At<'_>) {
    f.optional_one_of(at, &["Bidirectional", "HostToContainer", "None"]);
    if at.str() == "Bidirectional" && !container.dig(&["securityContext", "privileged"]).bool() {
        f.forbidden(at, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(f: &mut Faults, at: &At<'_>, mount: &At<'_>) {
    f.optional_one_of(at, &["Disabled", "IfPossible", "Enabled"]);
    if matches!(at.str(), "IfPossible" | "Enabled") {
        if !mount.get("readOnly").bool() {
            f.forbidden(at, "may only be specified when readOnly is true");
        }
        if !matches!(mount.text("mountPropagation"), "" | "None") {
            f.forbidden(at, "may only be specified when mountPropagation is None or not specified");
        }
    }
}

pub(super) fn volume_devices(f: &mut Faults, container: &At<'_>, pod: &Pod<'_>) {
    let mounts = container.get("volumeMounts");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        f.present(&name);
        if !names.insert(name.str()) {
            f.invalid(&name, "must be unique");
        }
        f.present(&path);
        if !paths.insert(path.str()) {
            f.invalid(&path, "must be unique");
        }
        if path.str().split('/').any(|part| part == "..") {
            f.invalid(&path, "can not contain backsteps ('..')");
        }
        if mounts.list().iter().any(|mount| mount["name"] == *name.value) {
            f.invalid(&name, "must not already exist in volumeMounts");
        }
        if mounts.list().iter().any(|mount| mount["mountPath"] == *path.value) {
            f.invalid(&path, "must not already exist as a path in volumeMounts");
        }
        match pod.volumes.get(name.str()) {
            None => f.not_found(&name, ""),
            Some(volume) if volume.get("persistentVolumeClaim").is_none() && volume.get("ephemeral").is_none() => {
                f.invalid(
                    &name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                );
            }
            Some(_) => {}
        }
    }
}
