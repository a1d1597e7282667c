//! How the process ends: one documented code per kind of failure, so that scripts can tell them apart.

use std::process::ExitCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    /// Anything that has no code of its own.
    Failure = 1,
    /// Wrong flags (clap's own code).
    #[expect(dead_code, reason = "clap ends the process with it; listed so that nothing else takes the number")]
    Usage = 2,
    /// A release ended on the stable version.
    RolledBack = 3,
    /// An address is taken.
    AddressInUse = 10,
    /// The data directory is used by another engine.
    DataInUse = 11,
    /// The data directory cannot be written.
    DataUnwritable = 12,
    /// The data were written by a newer version.
    DataNewer = 13,
    /// The API cannot be reached.
    Unreachable = 14,
    /// The data directory was taken away while the engine ran.
    DataLost = 15,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
