//! Runs the binary: to its end, or as an engine that is told to stop.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a start, a stop or an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary with these words, and nothing of the environment that could lead it astray.
pub(crate) fn sluice(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    on_its_own(Command::new(env!("CARGO_BIN_EXE_sluice")), words)
}

fn on_its_own(mut command: Command, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    for variable in ["KUBECONFIG", "SLUICE_LOG", "XDG_DATA_HOME", "HOME"] {
        command.env_remove(variable);
    }
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command that ended said, with its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the binary was built for this test");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary speaks UTF-8");
    Said { code: status.code().expect("it ends by itself"), out: text(stdout), err: text(stderr) }
}

/// An engine with a directory of its own; killed when a test fails.
pub(crate) struct Engine {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The line it prints once it is ready.
    pub(crate) ready: Value,
}

impl Engine {
    /// `sluice up -o json` over this directory, on free ports.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::spawned(sluice(up(data).iter().chain(&to_strings(more))))
    }

    /// The same from a shell that was told something before.
    pub(crate) fn start_with(told: &str, data: &Path, more: &[&str]) -> Self {
        let script = format!("{told}; exec \"$@\"");
        let mut words = to_strings(&["-c", &script, "sh", env!("CARGO_BIN_EXE_sluice")]);
        words.extend(up(data));
        words.extend(to_strings(more));
        Self::spawned(on_its_own(Command::new("/bin/sh"), words))
    }

    fn spawned(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary was built for this test");
        let stdout = child.stdout.take().expect("it is piped");
        let (lines, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let _read = stdout.read_line(&mut line);
            // The test may have given up on it.
            let _sent = lines.send((line, stdout));
        });
        let (line, stdout) = line.recv_timeout(PATIENCE).expect("a line comes, or the end");
        match serde_json::from_str(&line) {
            Ok(ready) => Self { child, stdout, ready },
            Err(_) => {
                let mut err = String::new();
                let _rest = child.stderr.take().expect("it is piped").read_to_string(&mut err);
                panic!("no ready line but `{line}`: {err}");
            }
        }
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {}", self.ready))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        PathBuf::from(self.text("kubeconfig"))
    }

    /// Runs a client command against this engine.
    pub(crate) fn ask(&self, words: &[&str]) -> Said {
        let mut command = sluice(words);
        command.env("KUBECONFIG", self.kubeconfig());
        run(command)
    }

    /// Sends the signal and waits for the end: the exit code, and what was printed after the ready line.
    pub(crate) fn stop(mut self, signal: Signal) -> (i32, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it speaks UTF-8");
        (status.code().expect("it ends by itself"), rest)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn up(data: &Path) -> Vec<String> {
    let data = data.to_str().expect("temporary directories have plain names");
    to_strings(&["up", "--data", data, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "-o", "json"])
}

fn to_strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a temporary directory")
}
