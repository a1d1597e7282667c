//! Where secrets and tokens lie: in memory, not on a disk that outlives them.
//!
//! Nothing is mounted for it, so that nothing stays mounted: the machine has file systems in memory already. A pod finds a link
//! among its volumes, as with a claim.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Volume;
use sluice_model::fnv1a;
use sluice_pod::pod_dir::{PASSAGE_DIR, PodDir, make_dir};

use super::make_root;

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Whether a volume holds what must not get onto a disk.
pub(super) fn is_secret(volume: &Volume) -> bool {
    let mut sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    volume.secret.is_some() || sources.any(|source| source.secret.is_some() || source.service_account_token.is_some())
}

/// Where the files of a secret volume are to be written, which `path` leads to. Without memory to write to, that is `path`
/// itself.
pub(super) fn home(dir: &PodDir, path: &Path, users: &BTreeSet<u32>) -> io::Result<PathBuf> {
    let written_before = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let Some(root) = pod_root(dir).filter(|_| !written_before) else { return Ok(path.to_owned()) };
    if let Some(all) = root.parent() {
        make_dir(all, PASSAGE_DIR)?;
        let owner = fs::symlink_metadata(all)?;
        if !owner.is_dir() || owner.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("`{}` belongs to somebody else", all.display())));
        }
    }
    make_root(&root, users)?;
    let target = root.join(path.file_name().unwrap_or_default());
    if fs::read_link(path).ok().as_ref() != Some(&target) {
        let _none = fs::remove_file(path);
        symlink(&target, path)?;
    }
    Ok(target)
}

/// The pod is gone, and so are its secrets.
pub(super) fn remove(dir: &PodDir) -> io::Result<()> {
    let Some(root) = pod_root(dir) else { return Ok(()) };
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Other pods may have theirs beside it.
    root.parent().map(fs::remove_dir).transpose().map_or(Ok(()), |_| Ok(()))
}

/// Named after the directory of all pods, as several engines may share a machine.
fn pod_root(dir: &PodDir) -> Option<PathBuf> {
    let (all, uid) = (dir.path().parent()?, dir.path().file_name()?);
    let name = format!("sluice-{:08x}", fnv1a(all.as_os_str().as_encoded_bytes()));
    Some(place()?.join(name).join(uid))
}

fn place() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root()).map(PathBuf::from);
    own.into_iter().chain(["/run".into(), "/dev/shm".into()]).find(|place| is_memory(place) && is_writable(place))
}

fn is_memory(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|disk| u64::try_from(disk.f_type) == Ok(TMPFS_MAGIC))
}

fn is_writable(place: &Path) -> bool {
    rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_stays_off_the_disk() {
        let check = |volume: serde_json::Value, expected| {
            let volume: Volume = serde_json::from_value(volume).expect("a volume");
            assert_eq!(is_secret(&volume), expected, "{}", volume.name);
        };
        check(serde_json::json!({"name": "secret", "secret": {"secretName": "s"}}), true);
        check(serde_json::json!({"name": "map", "configMap": {"name": "c"}}), false);
        check(serde_json::json!({"name": "maps", "projected": {"sources": [{"configMap": {"name": "c"}}]}}), false);
        let token = serde_json::json!({"serviceAccountToken": {"path": "token"}});
        check(
            serde_json::json!({"name": "token", "projected": {"sources": [{"configMap": {"name": "c"}}, token]}}),
            true,
        );
    }

    #[test]
    fn secrets_go_with_their_pod() {
        let data = tempfile::tempdir().expect("a directory");
        let dir = PodDir::new(data.path().join("1-2"));
        make_dir(&dir.volumes(), PASSAGE_DIR).expect("a directory");
        let path = dir.volumes().join("pw");
        let home = home(&dir, &path, &BTreeSet::new()).expect("a place");
        fs::create_dir_all(&home).expect("a directory");
        fs::write(home.join("word"), "secret").expect("a file");
        assert_eq!(fs::read_to_string(path.join("word")).expect("the same file"), "secret");
        remove(&dir).expect("removed");
        assert!(home == path || !home.parent().and_then(Path::parent).is_some_and(Path::exists));
    }
}
