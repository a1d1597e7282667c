//! Volumes of process pods: real directories below the pod's own, since a process sees the machine's file system as it is.
//!
//! `$SLUICE_VOLUME_<NAME>` tells a container where each of its volumes lies.

mod atomic;
mod claimed;
mod content;
mod memory;
mod ownership;
mod sub_path;

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileTypeExt as _, chown},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, Volume};
use sluice_pod::{
    bounds::Place,
    pod_dir::{PASSAGE_DIR, PRIVATE_DIR, PodDir, make_dir},
};

pub(super) use self::ownership::Ownership;
use super::{downward::Facts, prepare::other_users, sources::Sources, tokens::Tokens};

/// Anyone in the pod may write to it, whoever they run as.
const EMPTY_DIR_MODE: u32 = 0o777;
/// What is made on the machine for a pod.
const HOST_DIRECTORY_MODE: u32 = 0o755;

/// Every pod gets this mount without asking, so it is nobody's surprise that a process does not.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a volume cannot be had; the text is that of a `FailedMount` event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {problem}")]
pub(super) struct MountError {
    volume: String,
    problem: String,
}

/// Makes every volume hold what it should. The first problem is told, the other volumes are written all the same.
pub(super) fn write(
    pod: &Pod,
    dir: &PodDir,
    facts: &Facts,
    sources: &Sources,
    tokens: &Tokens,
) -> Result<(), MountError> {
    let users = pod.spec.as_ref().map(other_users).unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let root = make_root(&dir.volumes(), &users).map_err(|error| unwritable(&dir.volumes(), &error));
    let problems = volumes.filter_map(|volume| {
        let problem = root.clone().and_then(|()| write_one(pod, dir, facts, sources, tokens, volume, &users)).err()?;
        Some(MountError { volume: volume.name.clone(), problem })
    });
    problems.collect::<Vec<_>>().into_iter().next().map_or(Ok(()), Err)
}

/// Takes away what a pod has outside of its own directory.
pub(super) fn forget(dir: &PodDir) -> io::Result<()> {
    memory::remove(dir)
}

/// The directory of all volumes. What lies in it may be secret and readable by all, as `defaultMode` has it: only those who
/// run in the pod get that far.
fn make_root(path: &Path, users: &BTreeSet<u32>) -> io::Result<()> {
    if users.len() > 1 {
        // Several users have no directory in common that is closed to all others.
        return make_dir(path, PASSAGE_DIR);
    }
    make_dir(path, PRIVATE_DIR)?;
    users.first().map_or(Ok(()), |uid| chown(path, Some(*uid), None))
}

fn write_one(
    pod: &Pod,
    dir: &PodDir,
    facts: &Facts,
    sources: &Sources,
    tokens: &Tokens,
    volume: &Volume,
    users: &BTreeSet<u32>,
) -> Result<(), String> {
    let path = dir.volumes().join(&volume.name);
    let group = fs_group(pod);
    if let Some(payload) = content::payload(pod, facts, sources, volume, tokens).map_err(|error| error.to_string())? {
        let home = if memory::is_secret(volume) { memory::home(dir, &path, users) } else { Ok(path.clone()) };
        let written = home.and_then(|home| atomic::write(&home, &payload, group, Timestamp::now()));
        return written.map(drop).map_err(|error| unwritable(&path, &error));
    }
    if volume.empty_dir.is_some() {
        return empty_dir(&path, group).map_err(|error| unwritable(&path, &error));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return claimed::link(&path, &source.claim_name, sources);
    }
    match &volume.host_path {
        Some(source) => host_path(source),
        None => {
            Err("pods know configMap, secret, downwardAPI, projected, emptyDir, hostPath and persistentVolumeClaim \
                     volumes only"
                .to_owned())
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("cannot write `{}`: {error}", path.display())
}

/// `fsGroup`, where we are the one to give it.
fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok().filter(|_| rustix::process::geteuid().is_root())
}

/// Claims that must be given to the pod's group before it starts. However much lies in them, it is looked through, so this is
/// for the caller to do where waiting is allowed.
pub(super) fn ownerships(pod: &Pod, dir: &PodDir, sources: &Sources) -> Vec<Ownership> {
    let Some(group) = fs_group(pod) else { return Vec::new() };
    let spec = pod.spec.as_ref();
    let policy = spec
        .and_then(|spec| spec.security_context.as_ref())
        .and_then(|context| context.fs_group_change_policy.as_deref());
    let volumes = spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| Some((volume, volume.persistent_volume_claim.as_ref()?)));
    let own = claims.filter(|(_, claim)| {
        claim.read_only != Some(true) && sources.volume(&claim.claim_name).is_some_and(claimed::is_managed)
    });
    own.map(|(volume, _)| Ownership {
        path: dir.volumes().join(&volume.name),
        group,
        only_if_root_differs: policy == Some("OnRootMismatch"),
    })
    .collect()
}

/// Once made, its mode is the pod's own business.
fn empty_dir(path: &Path, group: Option<u32>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    chown(path, None, group)?;
    // Giving it away would have cleared what hands the group on.
    make_dir(path, if group.is_some() { 0o2000 | EMPTY_DIR_MODE } else { EMPTY_DIR_MODE })
}

fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = PathBuf::from(&source.path);
    let kind = fs::metadata(&path).map(|metadata| metadata.file_type()).ok();
    let (fits, wanted) = match source.type_.as_deref().unwrap_or_default() {
        // As runtimes do: what is not there becomes a directory.
        "" => (kind.is_some() || make_dir(&path, HOST_DIRECTORY_MODE).is_ok(), "a directory"),
        "DirectoryOrCreate" => {
            let fits = kind.map_or_else(|| make_dir(&path, HOST_DIRECTORY_MODE).is_ok(), |kind| kind.is_dir());
            (fits, "a directory")
        }
        "FileOrCreate" => (kind.map_or_else(|| fs::File::create_new(&path).is_ok(), |kind| kind.is_file()), "a file"),
        "Directory" => (kind.is_some_and(|kind| kind.is_dir()), "a directory"),
        "File" => (kind.is_some_and(|kind| kind.is_file()), "a file"),
        "Socket" => (kind.is_some_and(|kind| kind.is_socket()), "a socket file"),
        "CharDevice" => (kind.is_some_and(|kind| kind.is_char_device()), "a character device"),
        "BlockDevice" => (kind.is_some_and(|kind| kind.is_block_device()), "a block device"),
        other => return Err(format!("hostPath type \"{other}\" is not known")),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {wanted}", source.path)) }
}

/// Makes the parts of volumes that a process mounts by `subPath`, where they are missing.
pub(super) fn make_sub_paths(pod: &Pod, dir: &PodDir, container: &Container) -> Result<(), String> {
    for mount in container.volume_mounts.iter().flatten() {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let Some(volume) = volumes.into_iter().find(|volume| volume.name == mount.name) else { continue };
        sub_path::make(&root(dir, volume), mount)?;
    }
    Ok(())
}

/// Where a container finds its volumes: pairs of environment variable and path, and what to say about mount paths that
/// a process does not get.
pub(super) fn placements(pod: &Pod, dir: &PodDir, container: &Container) -> (Vec<(String, String)>, Vec<String>) {
    let (mut env, mut elsewhere) = (Vec::new(), Vec::new());
    for mount in container.volume_mounts.iter().flatten() {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let Some(volume) = volumes.into_iter().find(|volume| volume.name == mount.name) else { continue };
        let path = sub_path::place(&root(dir, volume), mount).to_string_lossy().into_owned();
        let variable = variable(&volume.name);
        if path != mount.mount_path && mount.mount_path != SERVICE_ACCOUNT {
            elsewhere.push(format!("{} lies at {path} (${variable})", mount.mount_path));
        }
        env.push((variable, path));
    }
    (env, elsewhere)
}

/// What a confined process reaches of the volumes that it mounts.
pub(super) fn reached(pod: &Pod, dir: &PodDir, container: &Container) -> Vec<Place> {
    let all: Vec<&Volume> = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).collect();
    let mounts = container.volume_mounts.iter().flatten();
    let places = mounts.filter_map(|mount| {
        let volume = all.iter().find(|volume| volume.name == mount.name)?;
        let claimed = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only) == Some(true);
        let read_only = content::is_content(volume) || claimed || mount.read_only == Some(true);
        let sub_path = mount.sub_path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(Place { path: root(dir, volume), sub_path, writable: !read_only })
    });
    places.collect()
}

/// Where a volume of processes lies.
fn root(dir: &PodDir, volume: &Volume) -> PathBuf {
    volume.host_path.as_ref().map_or_else(|| dir.volumes().join(&volume.name), |source| PathBuf::from(&source.path))
}

/// The same for any pod: in a container, a volume lies where the manifest mounts it.
pub(super) fn places(pod: &Pod, dir: &PodDir, container: &Container, confined: bool) -> Vec<(String, String)> {
    if !confined {
        return placements(pod, dir, container).0;
    }
    let mounts = container.volume_mounts.iter().flatten();
    mounts.map(|mount| (variable(&mount.name), mount.mount_path.clone())).collect()
}

fn variable(volume: &str) -> String {
    let name = volume.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("SLUICE_VOLUME_{}", name.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_all_kinds_come_and_follow() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = PodDir::new(directory.path());
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"a": "1"}},
            "spec": {
                "containers": [{"name": "web", "volumeMounts": [
                    {"name": "conf", "mountPath": "/etc/web"}, {"name": "tmp", "mountPath": "/tmp"},
                ]}],
                "volumes": [
                    {"name": "conf", "configMap": {"name": "c", "items": [{"key": "k", "path": "sub/k.txt"}]}},
                    {"name": "pw", "secret": {"secretName": "s", "defaultMode": 256}},
                    {"name": "me", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                    {"name": "all", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}},
                        {"configMap": {"name": "none", "optional": true}},
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}},
                    {"name": "scratch", "emptyDir": {}}, {"name": "tmp", "hostPath": {"path": "/tmp"}},
                ],
            },
        }))
        .expect("a pod");
        let facts = Facts {
            pod_ip: [127, 64, 0, 1].into(),
            pod_ip_v6: None,
            host_ip: [10, 0, 0, 1].into(),
            allocatable: std::collections::BTreeMap::new(),
        };
        let wish = serde_json::from_value(serde_json::json!({"path": "token", "expirationSeconds": 3607}))
            .expect("a projection");
        let tokens = Tokens::holding(&wish, "secret word");
        let mut sources = Sources::new("shop");
        let config = |value: &str| {
            serde_json::from_value(serde_json::json!({"metadata": {"name": "c"}, "data": {"k": value}})).expect("a map")
        };
        sources.put_config_map(config("one"));
        let error = write(&pod, &dir, &facts, &sources, &tokens).expect_err("the secret is missing").to_string();
        assert_eq!(error, "MountVolume.SetUp failed for volume \"pw\" : secret \"s\" not found");
        sources.put_secret(
            serde_json::from_value(serde_json::json!({"metadata": {"name": "s"}, "data": {"p": "cHc="}}))
                .expect("a secret"),
        );
        let read = |path: &str| fs::read_to_string(dir.volumes().join(path)).unwrap_or_default();
        write(&pod, &dir, &facts, &sources, &tokens).expect("volumes");
        let found = ["conf/sub/k.txt", "pw/p", "me/labels", "all/k", "all/p", "all/token"].map(read);
        assert_eq!(found, ["one", "pw", "a=\"1\"", "one", "pw", "secret word"]);
        assert!(dir.volumes().join("scratch").is_dir());
        sources.put_config_map(config("two"));
        write(&pod, &dir, &facts, &sources, &tokens).expect("volumes");
        assert_eq!(["conf/sub/k.txt", "all/k"].map(read), ["two", "two"]);
        memory::remove(&dir).expect("secrets are removed");

        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let (env, elsewhere) = placements(&pod, &dir, container);
        let conf = dir.volumes().join("conf").display().to_string();
        let expected =
            [("SLUICE_VOLUME_CONF".to_owned(), conf.clone()), ("SLUICE_VOLUME_TMP".to_owned(), "/tmp".to_owned())];
        assert_eq!(env, expected);
        assert_eq!(elsewhere, [format!("/etc/web lies at {conf} ($SLUICE_VOLUME_CONF)")]);
    }

    #[test]
    fn a_path_of_the_machine_is_what_its_type_says() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
        fs::write(path("file"), "").expect("a file");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
        let check = |path: String, kind: &str, problem: &str| {
            let source = HostPathVolumeSource { path: path.clone(), type_: Some(kind.to_owned()) };
            let told = host_path(&source).err().unwrap_or_default();
            assert_eq!(told.replace(&path, "PATH"), problem, "{kind}");
        };
        let failed = |what: &str| format!("hostPath type check failed: PATH is not {what}");
        check(path("file"), "", "");
        check(path("made/here"), "", "");
        check(path("file"), "File", "");
        check(path("file"), "Directory", &failed("a directory"));
        check(path("file"), "DirectoryOrCreate", &failed("a directory"));
        check(path("none"), "File", &failed("a file"));
        check(path("new"), "FileOrCreate", "");
        check(path("new"), "File", "");
        check(path("socket"), "Socket", "");
        check(path("socket"), "File", &failed("a file"));
        check("/dev/null".to_owned(), "CharDevice", "");
        check("/dev/null".to_owned(), "BlockDevice", &failed("a block device"));
        check("/dev/null".to_owned(), "Socket", &failed("a socket file"));
    }
}
