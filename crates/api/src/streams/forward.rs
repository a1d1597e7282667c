//! `portforward`: for each connection at the client, one to a port of the pod.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::channels::Dialect;
use super::pipes::{Inlet, Out, Outlet};
use super::seam::PodStreams;
use super::socket;
use super::spdy::{self, Opened};
use crate::object::Object as _;

/// Streams that wait for their other half.
const MAX_HALVES: usize = 64;

/// One connection to be.
struct Wanted {
    port: u16,
    data: (Inlet, Outlet),
    error: Outlet,
}

/// Each connection is an error and a data stream of the same `requestid`.
pub(super) async fn by_spdy<T>(io: T, node: Arc<dyn PodStreams>, pod: Arc<Value>)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut connection, running) = spdy::serve(io);
    let pairing = async {
        let mut halves: HashMap<String, Opened> = HashMap::new();
        let mut forwards = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = connection.opened.recv() => stream,
                Some(_) = forwards.join_next() => continue,
            };
            let Some(stream) = stream else { return };
            let request = stream.header("requestid").unwrap_or_default().to_owned();
            let Some(other) = halves.remove(&request) else {
                if halves.len() < MAX_HALVES {
                    halves.insert(request, stream);
                } else {
                    stream.outlet.end().await;
                }
                continue;
            };
            let (node, pod) = (Arc::clone(&node), Arc::clone(&pod));
            forwards.spawn(async move { pair(stream, other, &*node, &pod).await });
        }
    };
    // The client's end is the end of everything that it has forwarded.
    tokio::select! {
        () = running => {}
        () = pairing => {}
    }
}

async fn pair(one: Opened, other: Opened, node: &dyn PodStreams, pod: &Value) {
    let is = |stream: &Opened, kind: &str| stream.header("streamtype") == Some(kind);
    let (data, error) = if is(&one, "data") { (one, other) } else { (other, one) };
    let port = data.header("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    match port {
        Some(port) if is(&data, "data") && is(&error, "error") => {
            let reset = data.reset;
            let wanted = Wanted { port, data: (data.inlet, data.outlet), error: error.outlet };
            reset.run_until_cancelled(forward(wanted, node, pod)).await;
            reset.cancel();
        }
        _ => {
            error.outlet.say("a connection needs an error and a data stream and a port from 1 to 65535").await;
            error.outlet.end().await;
            data.outlet.end().await;
        }
    }
    error.reset.cancel();
}

/// The old form: two channels for each port, data and error, on which the port itself is the first word.
pub(super) async fn by_channels<T>(io: T, dialect: Dialect, node: Arc<dyn PodStreams>, pod: Arc<Value>, ports: &[u16])
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    // Reading the query has seen to it that these fit.
    let listened: Vec<u8> = (0..ports.len()).map(|place| place as u8 * 2).collect();
    let (channels, running) = socket::channels(io, dialect, &listened);
    let wire = channels.wire;
    let forwarding = async {
        let all = listened.iter().zip(ports).zip(channels.inlets).map(|((channel, port), inlet)| {
            let outlet = |channel: u8| Outlet::new(channel.into(), wire.clone());
            let (data, error) = (outlet(*channel), outlet(*channel + 1));
            let (node, pod) = (&node, &pod);
            async move {
                let word = port.to_le_bytes().to_vec();
                data.say(word.clone()).await;
                error.say(word).await;
                forward(Wanted { port: *port, data: (inlet, data), error }, &**node, pod).await;
            }
        });
        futures::future::join_all(all).await;
        let _gone = wire.send(Out::Finish).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = running => {}
        () = forwarding => {}
    }
}

/// Carries bytes both ways until both sides have said everything.
async fn forward(wanted: Wanted, node: &dyn PodStreams, pod: &Value) {
    let Wanted { port, data: (inlet, outlet), error } = wanted;
    match node.connect(pod, port).await {
        Ok(stream) => {
            let (read, write) = tokio::io::split(stream);
            let down = async {
                outlet.pump(read).await;
                outlet.end().await;
            };
            tokio::join!(inlet.pump(write), down);
        }
        Err(why) => {
            let (name, namespace, uid) = (pod.name(), pod.text("/metadata/namespace"), pod.uid());
            error.say(format!("error forwarding port {port} to pod {name}_{namespace}, uid {uid}: {why}")).await;
            outlet.end().await;
        }
    }
    error.end().await;
}
