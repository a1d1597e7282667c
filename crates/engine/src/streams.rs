//! Joins the API's seam for streams into pods with the node that runs them.

use std::sync::OnceLock;

use serde_json::Value;
use sluice_api::{Ending, PodStreams, PortStream, Session, SessionOptions, StreamError, StreamFuture};
use sluice_node::{Ended, StreamOpener, StreamWish, Streams};

/// The API starts before the node: until the node is there, nothing runs.
#[derive(Default)]
pub(crate) struct NodeStreams {
    opener: OnceLock<StreamOpener>,
}

impl NodeStreams {
    pub(crate) fn connect(&self, opener: StreamOpener) {
        let _ = self.opener.set(opener);
    }
}

impl PodStreams for NodeStreams {
    fn open<'a>(
        &'a self,
        pod: &'a Value,
        options: &'a SessionOptions,
    ) -> StreamFuture<'a, Result<Session, StreamError>> {
        Box::pin(async move {
            let opener = self.opener.get().ok_or_else(|| StreamError::Failed("no node runs here".into()))?;
            let SessionOptions { container, command, stdin, stdout, stderr, tty } = options;
            let wish =
                StreamWish { command: command.clone(), stdin: *stdin, stdout: *stdout, stderr: *stderr, tty: *tty };
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let opened = opener.open(uid, container, wish).await;
            opened.map(session).map_err(|error| match error {
                sluice_node::StreamError::NotRunning { container } => StreamError::NotRunning(container),
                other => StreamError::Failed(other.to_string()),
            })
        })
    }

    fn connect<'a>(&'a self, pod: &'a Value, port: u16) -> StreamFuture<'a, Result<PortStream, StreamError>> {
        Box::pin(async move {
            let opener = self.opener.get().ok_or_else(|| StreamError::Failed("no node runs here".into()))?;
            let address = pod["status"]["podIP"].as_str().unwrap_or_default();
            let address = address.parse().map_err(|_| StreamError::Failed("the pod has no address yet".into()))?;
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let stream = opener.connect(uid, address, port).await;
            let stream = stream.map_err(|error| StreamError::Failed(error.to_string()))?;
            // Small pieces must not wait for more; without it they are only slower.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as PortStream)
        })
    }
}

fn session(streams: Streams) -> Session {
    let Streams { stdin, stdout, stderr, terminal, ended } = streams;
    Session {
        stdin: stdin.map(|end| Box::new(end) as _),
        stdout: stdout.map(|end| Box::new(end) as _),
        stderr: stderr.map(|end| Box::new(end) as _),
        resize: terminal
            .map(|terminal| -> sluice_api::Resize { Box::new(move |size| terminal.set(size.width, size.height)) }),
        ended: Box::pin(async move {
            match ended.await {
                Ended::Exited(code) => Ending::Exited(code),
                Ended::Lost => Ending::Failed("the pod's supervisor is gone".into()),
            }
        }),
    }
}
