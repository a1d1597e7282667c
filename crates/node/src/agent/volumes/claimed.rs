//! Volumes of claims: a link to the directory that the claim is bound to, which outlives the pod.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt as _;

use super::host_path;
use crate::agent::{
    provisioner::{PROVISIONED_BY, PROVISIONER},
    sources::Sources,
};

/// Makes `path` lead to the directory of the claim.
pub(super) fn link(path: &Path, claim: &str, sources: &Sources) -> Result<(), String> {
    let volume =
        sources.volume(claim).ok_or_else(|| format!("persistentvolumeclaim \"{claim}\" is not bound to a volume"))?;
    let directory = directory(volume)?;
    match fs::read_link(path) {
        Ok(before) if before == directory => return Ok(()),
        Ok(_) => fs::remove_file(path).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    symlink(&directory, path).map_err(|error| error.to_string())
}

/// Whether the directory behind a volume is for a pod's group to have: one of ours or one that was set aside for volumes, and
/// not any path of the machine.
pub(super) fn is_managed(volume: &PersistentVolume) -> bool {
    let local = volume.spec.as_ref().is_some_and(|spec| spec.local.is_some());
    local || volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == PROVISIONER)
}

fn directory(volume: &PersistentVolume) -> Result<PathBuf, String> {
    let name = volume.name_any();
    let spec = volume.spec.as_ref();
    if let Some(source) = spec.and_then(|spec| spec.host_path.as_ref()) {
        host_path(source)?;
        return existing(PathBuf::from(&source.path));
    }
    match spec.and_then(|spec| spec.local.as_ref()) {
        Some(local) => existing(PathBuf::from(&local.path)),
        None => Err(format!("persistentvolume \"{name}\" is neither hostPath nor local, and no driver is installed")),
    }
}

fn existing(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() { Ok(path) } else { Err(format!("path \"{}\" does not exist", path.display())) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(spec: &serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).expect("a volume")
    }

    #[test]
    fn a_claim_leads_to_the_directory_of_its_volume() {
        let home = tempfile::tempdir().expect("a directory");
        let (path, data) = (home.path().join("link"), home.path().join("data"));
        let mut sources = Sources::new("shop");
        let mut check = |spec: Option<serde_json::Value>| {
            spec.into_iter().for_each(|spec| sources.put_volume("c", volume(&spec)));
            link(&path, "c", &sources)
        };
        let error = |problem: &str| Err(problem.to_owned());
        assert_eq!(check(None), error("persistentvolumeclaim \"c\" is not bound to a volume"));
        let missing = json!({"local": {"path": "/no/such/path"}});
        assert_eq!(check(Some(missing)), error("path \"/no/such/path\" does not exist"));
        let foreign = json!({"nfs": {"server": "s", "path": "/"}});
        let refused = "persistentvolume \"v\" is neither hostPath nor local, and no driver is installed";
        assert_eq!(check(Some(foreign)), error(refused));
        let made = json!({"hostPath": {"path": data, "type": "DirectoryOrCreate"}});
        assert_eq!(check(Some(made.clone())), Ok(()));
        assert_eq!(check(Some(made)), Ok(()), "a second time changes nothing");
        fs::write(path.join("note"), "kept").expect("a file");
        assert_eq!(fs::read_to_string(data.join("note")).expect("the note"), "kept");
        assert_eq!(check(Some(json!({"local": {"path": home.path()}}))), Ok(()), "another volume, another directory");
        assert!(data.join("note").exists());
    }
}
