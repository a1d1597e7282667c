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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::seam::{PortStream, Session, SessionOptions, StreamError, StreamFuture};
    use super::super::spdy::testing::Client;
    use super::*;

    /// Every port says what it is told, but for number 9.
    struct Echo;

    impl PodStreams for Echo {
        fn open<'a>(&'a self, _: &'a Value, _: &'a SessionOptions) -> StreamFuture<'a, Result<Session, StreamError>> {
            unreachable!("nothing is run here")
        }

        fn connect<'a>(&'a self, _: &'a Value, port: u16) -> StreamFuture<'a, Result<PortStream, StreamError>> {
            Box::pin(async move {
                if port == 9 {
                    return Err(StreamError::Failed("nobody listens".into()));
                }
                let (near, far) = tokio::io::duplex(64);
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(far);
                    let mut all = Vec::new();
                    // Answers only at the end: each half is closed by itself.
                    let _end = read.read_to_end(&mut all).await;
                    let _end = write.write_all(&all).await;
                });
                Ok(Box::new(near) as PortStream)
            })
        }
    }

    fn client() -> Client {
        let (near, far) = tokio::io::duplex(1 << 16);
        let pod = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}});
        tokio::spawn(by_spdy(far, Arc::new(Echo), Arc::new(pod)));
        Client::new(near)
    }

    fn pair_of(kind: &'static str, port: &'static str, request: &'static str) -> [(&'static str, &'static str); 3] {
        [("streamtype", kind), ("port", port), ("requestid", request)]
    }

    #[tokio::test]
    async fn each_connection_has_its_own_pair_of_streams() {
        let mut client = client();
        client.open(1, &pair_of("error", "80", "0")).await;
        client.open(3, &pair_of("error", "80", "1")).await;
        client.open(5, &pair_of("data", "80", "1")).await;
        client.open(7, &pair_of("data", "80", "0")).await;
        client.data(5, b"one", true).await;
        client.data(7, b"two", true).await;
        assert_eq!(client.whole(5).await, b"one");
        assert_eq!(client.whole(7).await, b"two");
        assert_eq!(client.whole(1).await, b"");
        assert_eq!(client.whole(3).await, b"");
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_told_on_the_error_stream() {
        let mut client = client();
        client.open(1, &pair_of("error", "9", "0")).await;
        client.open(3, &pair_of("data", "9", "0")).await;
        let said = client.whole(1).await;
        assert_eq!(String::from_utf8_lossy(&said), "error forwarding port 9 to pod web_ns, uid u: nobody listens");
        assert_eq!(client.whole(3).await, b"");
    }

    #[tokio::test]
    async fn streams_that_are_no_pair_are_told_so() {
        let mut client = client();
        client.open(1, &pair_of("data", "80", "0")).await;
        client.open(3, &pair_of("data", "80", "0")).await;
        assert!(client.whole(1).await.starts_with(b"a connection needs"));
        client.open(2, &pair_of("data", "80", "1")).await;
        assert!(client.is_refused(2).await);
    }
}
