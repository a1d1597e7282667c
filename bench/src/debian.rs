//! Peers and tools come from Debian's packages.

use std::process::Command;

use anyhow::Context as _;

/// Installs the packages of programs that are missing.
pub(crate) fn install(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| std::env::split_paths(&places).any(|dir| dir.join(program).is_file());
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
        finish(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat())
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn finish(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
