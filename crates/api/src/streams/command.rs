//! `exec` and `attach`: a session of a pod on one side, a client's streams on the other, a status at the end.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::channels::Version;
use super::pipes::{Inlet, Out, Outlet};
use super::seam::{Ending, Resize, Session, SessionOptions, Size, StreamError};
use crate::refusal::Refusal;

/// What may still come out of a command that has ended, for instance by children that it left behind.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// A size is a few bytes; what grows beyond this is none.
const MAX_SIZE_BYTES: usize = 4096;

/// A client's streams, as far as it has them.
pub(super) struct Lines {
    pub(super) stdin: Option<Inlet>,
    pub(super) stdout: Option<Outlet>,
    pub(super) stderr: Option<Outlet>,
    pub(super) error: Outlet,
    pub(super) resize: Option<Inlet>,
    pub(super) wire: mpsc::Sender<Out>,
}

/// Runs a session to its end, or to that of the client.
pub(super) async fn converse(
    session: Result<Session, StreamError>,
    lines: Lines,
    options: &SessionOptions,
    version: Version,
) {
    let Lines { stdin, stdout, stderr, error, resize, wire } = lines;
    let status = match session {
        Err(error @ StreamError::NotRunning(_)) => {
            Refusal::Internal(format!("unable to upgrade connection: {error}")).status()
        }
        Err(StreamError::Failed(why)) => status(&Ending::Failed(why), options),
        Ok(session) => {
            let ending = tokio::select! {
                ending = flow(session, stdin, &stdout, &stderr, resize) => ending,
                () = wire.closed() => return,
            };
            status(&ending, options)
        }
    };
    if let Some(text) = said(&status, version) {
        error.say(text).await;
    }
    for outlet in [Some(error), stdout, stderr].into_iter().flatten() {
        outlet.end().await;
    }
    let _gone = wire.send(Out::Finish).await;
}

async fn flow(
    session: Session,
    stdin: Option<Inlet>,
    stdout: &Option<Outlet>,
    stderr: &Option<Outlet>,
    resize: Option<Inlet>,
) -> Ending {
    let input = async {
        if let (Some(inlet), Some(into)) = (stdin, session.stdin) {
            inlet.pump(into).await;
        }
    };
    let sizes = async {
        if let (Some(inlet), Some(resize)) = (resize, session.resize) {
            follow_sizes(inlet, resize).await;
        }
    };
    let out = |outlet, from| async move {
        if let (Some(outlet), Some(from)) = (outlet, from) {
            Outlet::pump(outlet, from).await;
        }
    };
    let output = async {
        tokio::join!(out(stdout.as_ref(), session.stdout), out(stderr.as_ref(), session.stderr));
    };
    let ended = async {
        let mut output = std::pin::pin!(output);
        let mut ended = session.ended;
        tokio::select! {
            ending = &mut ended => {
                let _late = tokio::time::timeout(DRAIN_TIME, output).await;
                ending
            }
            () = output.as_mut() => ended.await,
        }
    };
    // The end of the input is not the end of the session.
    let talk = async {
        tokio::join!(input, sizes);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ending = ended => ending,
        () = talk => unreachable!("it waits for ever"),
    }
}

async fn follow_sizes(mut inlet: Inlet, resize: Resize) {
    let mut text = Vec::new();
    while let Some(bytes) = inlet.next().await {
        text.extend_from_slice(&bytes);
        if let Some(size) = newest_size(&mut text) {
            resize(size);
        }
    }
}

/// The last whole size in what has come so far; what follows it stays.
fn newest_size(text: &mut Vec<u8>) -> Option<Size> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Sent {
        #[serde(default)]
        width: u16,
        #[serde(default)]
        height: u16,
    }
    let mut sizes = serde_json::Deserializer::from_slice(text).into_iter::<Sent>();
    let (mut newest, mut read, mut broken) = (None, 0, false);
    while let Some(size) = sizes.next() {
        match size {
            Ok(Sent { width, height }) => (newest, read) = (Some(Size { width, height }), sizes.byte_offset()),
            Err(error) => broken = !error.is_eof(),
        }
    }
    if broken || text.len() > MAX_SIZE_BYTES {
        text.clear();
    } else {
        text.drain(..read);
    }
    newest
}

/// How a session ended, as a `Status`.
fn status(ending: &Ending, options: &SessionOptions) -> Value {
    match (ending, &options.command) {
        // What somebody was attached to has ended, however: the session itself went well.
        (Ending::Exited(0), _) | (Ending::Exited(_), None) => json!({"metadata": {}, "status": "Success"}),
        (Ending::Exited(code), Some(command)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        (Ending::Failed(why), Some(_)) => {
            Refusal::Internal(format!("error executing command in container: {why}")).status()
        }
        (Ending::Failed(why), None) => Refusal::Internal(format!("error attaching to container: {why}")).status(),
    }
}

/// What the error stream says of it.
fn said(status: &Value, version: Version) -> Option<String> {
    match (version, status["status"] == "Success") {
        (Version::V1, true) => None,
        (Version::V1, false) => status["message"].as_str().map(str::to_owned),
        (Version::V4 | Version::V5, _) => Some(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_any_pieces() {
        let mut text = br#"{"Width":80,"Hei"#.to_vec();
        assert_eq!(newest_size(&mut text), None);
        text.extend_from_slice(br#"ght":24}{"Width":81,"Height":25}{"Wid"#);
        assert_eq!(newest_size(&mut text), Some(Size { width: 81, height: 25 }));
        assert_eq!(text, br#"{"Wid"#);
        text.extend_from_slice(b"oops");
        assert_eq!(newest_size(&mut text), None);
        let mut endless = vec![b' '; MAX_SIZE_BYTES + 1];
        assert_eq!((newest_size(&mut endless), endless.len()), (None, 0));
    }

    #[test]
    fn endings_are_told_as_kubectl_reads_them() {
        let exec = SessionOptions { command: Some(vec!["sh".into(), "-c".into()]), ..SessionOptions::default() };
        let attach = SessionOptions::default();
        let failed = Ending::Failed("no such program".into());
        assert_eq!(status(&Ending::Exited(0), &exec)["status"], "Success");
        assert_eq!(status(&Ending::Exited(3), &attach)["status"], "Success");
        let three = status(&Ending::Exited(3), &exec);
        assert_eq!(
            (&three["reason"], &three["details"]["causes"][0]["message"]),
            (&json!("NonZeroExitCode"), &json!("3"))
        );
        let why = "Internal error occurred: error executing command in container: no such program";
        assert_eq!(status(&failed, &exec)["message"], why);
        assert_eq!(said(&status(&failed, &exec), Version::V1).as_deref(), Some(why));
        assert_eq!(said(&status(&Ending::Exited(0), &exec), Version::V1), None);
        assert_eq!(
            said(&status(&Ending::Exited(0), &exec), Version::V4),
            Some(r#"{"metadata":{},"status":"Success"}"#.into())
        );
    }
}
