//! `subPath` for processes: they are told where the part of a volume lies that they mount.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;
use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat},
    io::Errno,
};

/// As a kubelet makes what is missing.
const MODE: Mode = Mode::from_raw_mode(0o750);

fn wanted(mount: &VolumeMount) -> Option<&str> {
    mount.sub_path.as_deref().filter(|path| !path.is_empty())
}

pub(super) fn place(root: &Path, mount: &VolumeMount) -> PathBuf {
    wanted(mount).map_or_else(|| root.to_owned(), |path| root.join(path))
}

/// Makes the directories on the way, but never through a link: whoever writes into the volume may have laid it.
pub(super) fn make(root: &Path, mount: &VolumeMount) -> Result<(), String> {
    if mount.sub_path_expr.as_deref().is_some_and(|expression| !expression.is_empty()) {
        return Err(format!(
            "volume \"{}\": subPathExpr is for containers: use subPath, or run the pod with runtimeClassName container",
            mount.name
        ));
    }
    let Some(path) = wanted(mount) else { return Ok(()) };
    let place = place(root, mount);
    if place.exists() {
        return Ok(());
    }
    let failed =
        |error: Errno| format!("failed to create subPath directory for volumeMount \"{}\": {error}", mount.name);
    let mut dir = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    for part in Path::new(path).components() {
        let Component::Normal(part) = part else {
            return Err(format!("volume \"{}\": subPath \"{path}\" leads out of it", mount.name));
        };
        match mkdirat(&dir, part, MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        dir = openat(&dir, part, flags, Mode::empty()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str) -> VolumeMount {
        VolumeMount { name: "v".to_owned(), sub_path: Some(path.to_owned()), ..VolumeMount::default() }
    }

    #[test]
    fn missing_parts_are_made_inside_the_volume_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("volume");
        std::fs::create_dir(&root).expect("a directory");
        assert_eq!(place(&root, &mount("")), root);
        assert_eq!(place(&root, &mount("a/b")), root.join("a/b"));
        make(&root, &mount("a/b")).expect("directories");
        make(&root, &mount("a/b")).expect("they are there");
        assert!(root.join("a/b").is_dir());
        std::fs::write(root.join("file"), "").expect("a file");
        make(&root, &mount("file")).expect("a file is a part, too");
        std::os::unix::fs::symlink(directory.path(), root.join("out")).expect("a link");
        let why = make(&root, &mount("out/escaped")).expect_err("a link");
        assert!(why.starts_with("failed to create subPath directory for volumeMount \"v\""), "{why}");
        assert!(make(&root, &mount("../x")).expect_err("upwards").contains("leads out of it"));
        assert!(!directory.path().join("escaped").exists());
        let expression = VolumeMount { sub_path_expr: Some("$(POD_NAME)".to_owned()), ..mount("") };
        assert!(make(&root, &expression).expect_err("an expression").contains("subPathExpr"));
    }
}
