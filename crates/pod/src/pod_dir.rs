//! The directory of one pod and what lies where in it; agent and supervisor share it.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Plans carry secrets in their environments, logs whatever a process says.
const PRIVATE_FILE: u32 = 0o600;
/// Only its owner looks into it.
pub const PRIVATE_DIR: u32 = 0o700;
/// Others may pass through it, since a process may run as somebody else, but not look.
pub const PASSAGE_DIR: u32 = 0o711;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodDir(PathBuf);

impl PodDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the supervisor is to run.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// What the supervisor knows, rewritten on every change.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// One line per ended container, only ever appended.
    pub fn exits(&self) -> PathBuf {
        self.0.join("exits.jsonl")
    }

    /// How processes ended that no supervisor waited for, the newest ones.
    pub fn reaped(&self) -> PathBuf {
        self.0.join("reaped.json")
    }

    /// Who supervises and who keeps.
    pub fn keepers(&self) -> PathBuf {
        self.0.join("keepers.json")
    }

    /// What lies between a container and its log: FIFOs and what was taken out of them.
    pub fn stdio(&self) -> PathBuf {
        self.0.join("stdio")
    }

    /// Who has begun of each container and of its hooks.
    pub fn marks(&self) -> PathBuf {
        self.0.join("begun")
    }

    pub fn begun(&self, container: &str) -> PathBuf {
        self.marks().join(container)
    }

    /// No container has a dot in its name.
    pub fn begun_hook(&self, container: &str) -> PathBuf {
        self.marks().join(format!("{container}.hook"))
    }

    /// What the agent must remember: the address, readiness, published notices.
    pub fn memory(&self) -> PathBuf {
        self.0.join("agent.json")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// Held by the supervisor for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What a supervisor had to say outside of any pod's logs.
    pub fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// What belongs to one container.
    pub fn container(&self, container: &str) -> PathBuf {
        self.0.join("containers").join(container)
    }

    /// The working directory of a container that names none.
    pub fn work(&self, container: &str) -> PathBuf {
        self.container(container).join("work")
    }

    /// What a container keeps for a while, where it may not write to the machine's own place for that.
    pub fn temporary(&self, container: &str) -> PathBuf {
        self.container(container).join("tmp")
    }

    pub fn termination_file(&self, container: &str) -> PathBuf {
        self.container(container).join("termination-log")
    }
}

/// Bound by its bare name, because socket paths are short and data directories may not be.
pub const SOCKET: &str = "supervisor.sock";

/// Makes a directory with this mode, or gives it to the one that is there, whatever the umask.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Opens a file to write at its end; a new one is readable by its owner alone.
pub fn append_private(path: &Path) -> io::Result<fs::File> {
    fs::File::options().append(true).create(true).mode(PRIVATE_FILE).open(path)
}

/// Closes what was made with the umask's mode to everyone but its owner.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE_FILE))
}

/// Replaces a file as a whole, readable by its owner alone: a reader sees the old text or the new one.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let text = serde_json::to_vec(value)?;
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(&temporary)?;
    io::Write::write_all(&mut file, &text)?;
    fs::rename(&temporary, path)
}

/// Reads what [`write_json`] wrote. What cannot be understood is put aside, so that it is never written.
pub fn recover_json<T: DeserializeOwned>(path: &Path) -> io::Result<Recovered<T>> {
    match read_json(path) {
        Ok(value) => Ok(Recovered::Whole(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            fs::rename(path, path.with_added_extension("damaged"))?;
            Ok(Recovered::Damaged(format!("`{}` is damaged and was put aside: {error}", path.display())))
        }
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
pub enum Recovered<T> {
    Whole(Option<T>),
    Damaged(String),
}

/// Reads what [`write_json`] wrote; `None` if it was never written.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
