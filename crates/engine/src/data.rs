//! Whether the data directory is still the one that the engine was started over.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked for: what is written meanwhile may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The data directory was removed, moved, replaced or unmounted under a running engine.
#[derive(Debug, thiserror::Error)]
#[error("the data directory `{}` was removed or replaced while the engine ran", path.display())]
pub struct DataLost {
    path: PathBuf,
}

pub(crate) struct DataWatch {
    path: PathBuf,
    /// What tells the store's file from any other.
    known: Option<(u64, u64)>,
}

impl DataWatch {
    /// The store must be open by now.
    pub(crate) fn over(path: &Path) -> Self {
        Self { path: path.to_owned(), known: identity(path) }
    }

    pub(crate) async fn lost(&self) -> DataLost {
        while !self.is_lost() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        DataLost { path: self.path.clone() }
    }

    pub(crate) fn is_lost(&self) -> bool {
        identity(&self.path) != self.known
    }
}

fn identity(data: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(data.join(sluice_store::FILE)).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_only_bears_the_name_is_not_the_one() {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join("data");
        let make = || {
            fs::create_dir(&data).expect("a directory");
            fs::write(data.join(sluice_store::FILE), "").expect("a file");
        };
        make();
        let watch = DataWatch::over(&data);
        assert!(!watch.is_lost());
        fs::rename(&data, home.path().join("elsewhere")).expect("a rename");
        let expected = format!("the data directory `{}` was removed or replaced while the engine ran", data.display());
        assert_eq!(watch.lost().await.to_string(), expected);
        make();
        assert!(watch.is_lost());
    }
}
