//! Keep-alive connections to one target, and one request over them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::tally::{Failure, Outcome};
use super::target::Target;

/// How long one request may take before it counts as failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// The header that tells which version answered; without it a JSON answer's `version` is taken.
const VERSION_HEADER: &str = "x-app-version";

pub(crate) struct Pool {
    target: Target,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Pool {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, idle: Mutex::default() }
    }

    pub(crate) async fn request(&self) -> Outcome {
        match tokio::time::timeout(TIMEOUT, self.exchange()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(Failure::Timeout),
        }
    }

    async fn exchange(&self) -> Result<Outcome, Failure> {
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await.map_err(|_| Failure::Closed)?;
        let answer = connection.send_request(self.target.request()).await.map_err(|error| failure(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| Failure::Truncated)?.to_bytes();
        let named = head.headers.get(VERSION_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let outcome = Outcome::Answered { status: head.status.as_u16(), version: named.or_else(|| version_of(&body)) };
        // A connection that is on its way out must not be used again: `ready` fails at once for those.
        if !connection.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(outcome)
    }

    /// The connection used last that is still open.
    fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if connection.is_ready() && !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Failure> {
        let stream = TcpStream::connect(&self.target.authority).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Failure::Refused,
            _ => Failure::Connect,
        })?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Connect)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_canceled() || error.is_closed() {
        Failure::Closed
    } else if error.is_incomplete_message() {
        Failure::Reset
    } else {
        Failure::Protocol
    }
}

/// The `version` at the top of a JSON answer, as the demo shop gives it.
fn version_of(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: String,
    }
    (body.first() == Some(&b'{')).then(|| serde_json::from_slice::<Versioned>(body).ok()).flatten().map(|v| v.version)
}
