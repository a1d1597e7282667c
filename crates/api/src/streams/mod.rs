//! Streams into pods: `exec`, `attach`, `portforward`.
//!
//! `upgrade` is the HTTP side: what a client asks to speak, and what it is answered. `websocket`, `channels` and `spdy` are the
//! protocols, bytes in and frames out; `socket` and `spdy::connection` run them. `command` and `forward` join what a client
//! opened with what the pod has, which is behind the `seam`. Every way is bounded (`pipes`).

mod channels;
mod command;
mod forward;
mod pipes;
mod seam;
mod socket;
mod spdy;
mod upgrade;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

pub use seam::{
    Ending, PodStreams, Port, PortStream, Resize, Session, SessionOptions, Size, StreamError, StreamFuture,
    StreamReader, StreamWriter,
};
pub(crate) use upgrade::Upgrade;

use crate::body::Body;
use crate::call::Call;
use channels::{Dialect, ERROR, RESIZE, STDERR, STDIN, STDOUT, Version};
use command::{Lines, converse};
use pipes::Outlet;
use spdy::Opened;
use upgrade::{Agreed, Wish};

/// How long a client may take to open the streams that it asked for.
const OPEN_TIME: Duration = Duration::from_secs(30);

/// Answers an upgrade to `exec` or `attach`, and talks from then on.
pub(crate) fn command(call: &Call, upgrade: &Upgrade, pod: Value, options: SessionOptions) -> Response<Body> {
    let Some(node) = call.server.inner.streams.clone() else { return upgrade::nobody() };
    let chosen = match &upgrade.wish {
        Wish::WebSocket { protocols, .. } => Dialect::choose(&channels::COMMANDS, protocols).map(Agreed::Channels),
        Wish::Spdy { protocols } => upgrade::choose(&upgrade::COMMANDS, protocols).map(Agreed::Spdy),
    };
    let Some(agreed) = chosen else { return upgrade::refused(&upgrade.wish) };
    let answer = upgrade::switched(&upgrade.wish, &agreed);
    start(call, upgrade.on.clone(), move |io| async move {
        match agreed {
            Agreed::Spdy(name) => by_spdy(io, name, &*node, &pod, &options).await,
            Agreed::Channels(dialect) => by_channels(io, dialect, &*node, &pod, &options).await,
            Agreed::Tunnel => unreachable!("commands are not tunnelled"),
        }
    });
    answer
}

/// Answers an upgrade to `portforward`, and forwards from then on. `ports` are those of the old form.
pub(crate) fn ports(call: &Call, upgrade: &Upgrade, pod: Value, ports: Vec<u16>) -> Response<Body> {
    let Some(node) = call.server.inner.streams.clone() else { return upgrade::nobody() };
    let chosen = match &upgrade.wish {
        Wish::WebSocket { protocols, .. } if protocols.iter().any(|name| name == upgrade::TUNNEL) => {
            Some(Agreed::Tunnel)
        }
        Wish::WebSocket { protocols, .. } => Dialect::choose(&channels::PORTS, protocols).map(Agreed::Channels),
        Wish::Spdy { protocols } => upgrade::choose(&upgrade::PORTS, protocols).map(Agreed::Spdy),
    };
    let Some(agreed) = chosen else { return upgrade::refused(&upgrade.wish) };
    if matches!(agreed, Agreed::Channels(_)) && ports.is_empty() {
        return upgrade::bad("query parameter \"port\" is required");
    }
    let answer = upgrade::switched(&upgrade.wish, &agreed);
    let (node, pod): (Arc<dyn PodStreams>, Arc<Value>) = (node, Arc::new(pod));
    start(call, upgrade.on.clone(), move |io| async move {
        match agreed {
            Agreed::Spdy(_) => forward::by_spdy(io, node, pod).await,
            Agreed::Channels(dialect) => forward::by_channels(io, dialect, node, pod, &ports).await,
            Agreed::Tunnel => {
                let (inside, running) = socket::tunnel(io);
                tokio::join!(running, forward::by_spdy(inside, node, pod));
            }
        }
    });
    answer
}

/// Waits until the connection is ours, and uses it until its end or that of the server.
fn start<F>(call: &Call, on: OnUpgrade, talk: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let stopping = call.server.inner.stopping.clone();
    tokio::spawn(async move {
        match on.await {
            Ok(connection) => drop(stopping.run_until_cancelled(talk(TokioIo::new(connection))).await),
            Err(error) => tracing::debug!(%error, "Connection not upgraded"),
        }
    });
}

async fn by_channels<T>(io: T, dialect: Dialect, node: &dyn PodStreams, pod: &Value, options: &SessionOptions)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (channels, running) = socket::channels(io, dialect, &[STDIN, RESIZE]);
    let wire = channels.wire;
    let outlet = |wanted: bool, channel: u8| wanted.then(|| Outlet::new(channel.into(), wire.clone()));
    let mut inlets = channels.inlets.into_iter();
    let (stdin, resize) = (inlets.next().filter(|_| options.stdin), inlets.next().filter(|_| options.tty));
    let lines = Lines {
        stdin,
        stdout: outlet(options.stdout, STDOUT),
        stderr: outlet(options.stderr, STDERR),
        error: Outlet::new(ERROR.into(), wire.clone()),
        resize,
        wire: wire.clone(),
    };
    let session = async {
        // The first, empty message says that the connection stands. Clients of version 5 know without, and those before
        // kubectl 1.33 complain about what comes before they have made up their streams.
        if dialect.version < Version::V5 {
            lines.stdout.as_ref().or(lines.stderr.as_ref()).unwrap_or(&lines.error).say("").await;
        }
        drop(wire);
        converse(node.open(pod, options).await, lines, options, dialect.version).await;
    };
    tokio::join!(running, session);
}

async fn by_spdy<T>(io: T, protocol: &str, node: &dyn PodStreams, pod: &Value, options: &SessionOptions)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut connection, running) = spdy::serve(io);
    let session = async {
        let version = if protocol == "v4.channel.k8s.io" { Version::V4 } else { Version::V1 };
        let wanted = [
            (true, "error"),
            (options.stdin, "stdin"),
            (options.stdout, "stdout"),
            (options.stderr, "stderr"),
            (options.tty && upgrade::resizes(protocol), "resize"),
        ];
        let names: Vec<&str> = wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect();
        let opened = tokio::time::timeout(OPEN_TIME, gather(&mut connection, &names)).await;
        let Ok(Some(mut streams)) = opened else {
            let _gone = connection.wire.send(pipes::Out::Finish).await;
            return;
        };
        let mut take = |name: &str| {
            let place = names.iter().position(|candidate| *candidate == name)?;
            streams[place].take()
        };
        let Some(error) = take("error") else { return };
        let lines = Lines {
            stdin: take("stdin").map(|stream| stream.inlet),
            stdout: take("stdout").map(|stream| stream.outlet),
            stderr: take("stderr").map(|stream| stream.outlet),
            error: error.outlet,
            resize: take("resize").map(|stream| stream.inlet),
            wire: connection.wire.clone(),
        };
        drop(connection);
        converse(node.open(pod, options).await, lines, options, version).await;
    };
    tokio::join!(running, session);
}

/// Waits until a client has opened these streams; `None` if it leaves before.
async fn gather(connection: &mut spdy::Connection, names: &[&str]) -> Option<Vec<Option<Opened>>> {
    let mut streams: Vec<Option<Opened>> = names.iter().map(|_| None).collect();
    while streams.iter().any(Option::is_none) {
        let stream = connection.opened.recv().await?;
        let place = names.iter().position(|name| stream.header("streamtype") == Some(name));
        if let Some(place) = place {
            streams[place] = Some(stream);
        }
    }
    Some(streams)
}
