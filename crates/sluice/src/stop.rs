//! Being told to stop: SIGINT from a terminal, SIGTERM from whoever runs us.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught before there is anything to clean up: a signal that comes in the middle of a start must not cut it off.
pub(crate) struct StopSignal {
    int: Signal,
    term: Signal,
}

impl StopSignal {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    /// Returns once either has come, also before this was called.
    pub(crate) async fn received(&mut self) {
        tokio::select! { _ = self.int.recv() => {} _ = self.term.recv() => {} }
    }
}
