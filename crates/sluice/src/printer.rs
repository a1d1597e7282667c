//! The one place that writes to standard output.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

/// Writes text as it is. A closed pipe ends the process quietly: whoever reads has seen enough.
pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}

/// One line of JSON.
pub(crate) fn json(value: &Value) {
    line(&value.to_string());
}

/// Remarks that are not data.
pub(crate) fn note(note: &str) {
    let _ = writeln!(io::stderr().lock(), "{note}");
}

/// Whether a live view makes sense.
pub(crate) fn is_live() -> bool {
    io::stdout().is_terminal()
}
