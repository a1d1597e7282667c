use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sluice_api::{
    Body, Ending, Identity, Options, PodStreams, PortStream, Server, Session, SessionOptions, StreamError, StreamFuture,
};
use sluice_store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::town::PATIENCE;

/// A node whose commands say what they are given, and end with code 3 when they have heard everything.
struct Parrot;

impl PodStreams for Parrot {
    fn open<'a>(&'a self, _: &'a Value, options: &'a SessionOptions) -> StreamFuture<'a, Result<Session, StreamError>> {
        Box::pin(async move {
            match options.command.as_deref() {
                None => return Err(StreamError::NotRunning(options.container.clone())),
                Some([program]) if program == "none" => return Err(StreamError::Failed("no such program".into())),
                Some(_) => {}
            }
            let (near, far) = tokio::io::duplex(64);
            let (stdout, stdin) = tokio::io::split(near);
            let (mut heard, mut say) = tokio::io::split(far);
            let ended = async move {
                let _heard_all = tokio::io::copy(&mut heard, &mut say).await;
                Ending::Exited(3)
            };
            let stdout = options.stdout.then(|| Box::new(stdout) as _);
            Ok(Session { stdin: Some(Box::new(stdin)), stdout, stderr: None, resize: None, ended: Box::pin(ended) })
        })
    }

    fn connect<'a>(&'a self, _: &'a Value, port: u16) -> StreamFuture<'a, Result<PortStream, StreamError>> {
        Box::pin(async move {
            if port == 9 {
                return Err(StreamError::Failed("nobody listens".into()));
            }
            let (near, mut far) = tokio::io::duplex(64);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(&mut far);
                let _end = tokio::io::copy(&mut read, &mut write).await;
            });
            Ok(Box::new(near) as PortStream)
        })
    }
}

async fn server() -> Server {
    let options = Options { streams: Some(Arc::new(Parrot)), ..Options::default() };
    let server = Server::start(Store::in_memory(), options).await.expect("an empty store can be started");
    for (path, body) in [
        ("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})),
        ("/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/ns/pods", on_node("web", &["app"], "here")),
        ("/api/v1/namespaces/ns/pods", on_node("two", &["a", "b"], "here")),
        ("/api/v1/namespaces/ns/pods", on_node("idle", &["app"], "")),
    ] {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(http_body_util::Full::new(Bytes::from(body.to_string()))).expect("a request");
        let service = server.in_process(Identity::system("tester"));
        let response = service.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::CREATED, "{path}");
    }
    server
}

fn on_node(name: &str, containers: &[&str], node: &str) -> Value {
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name, "image": "app:1"})).collect();
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}})
}

async fn ask(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(format!("/api/v1/namespaces/ns/pods/{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    server.in_process(Identity::system("tester")).oneshot(request).await.expect("an answer")
}

fn socket(protocol: &str) -> [(&str, &str); 5] {
    [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ]
}

/// A client of WebSockets, as far as short messages go.
struct Client(TokioIo<hyper::upgrade::Upgraded>);

impl Client {
    async fn open(server: &Server, path: &str, protocol: &str) -> Self {
        let response = ask(server, path, &socket(protocol)).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        Self(TokioIo::new(hyper::upgrade::on(response).await.expect("a connection")))
    }

    async fn say(&mut self, message: &[u8]) {
        // A mask of zeros leaves the message as it is.
        let head = [0x82, 0x80 | u8::try_from(message.len()).expect("a short message"), 0, 0, 0, 0];
        self.0.write_all(&[&head, message].concat()).await.expect("the server reads");
    }

    /// The next message; `None` for the end.
    async fn hear(&mut self) -> Option<Vec<u8>> {
        let hear = async {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).await.ok()?;
            let length = match head[1] {
                126 => self.0.read_u16().await.ok()?.into(),
                short => usize::from(short),
            };
            let mut message = vec![0; length];
            self.0.read_exact(&mut message).await.ok()?;
            (head[0] & 0x0f != 8).then_some(message)
        };
        tokio::time::timeout(PATIENCE, hear).await.expect("the server says something")
    }

    /// Everything said on one channel until the end.
    async fn hear_all(&mut self, channel: u8) -> String {
        let mut text = Vec::new();
        while let Some(message) = self.hear().await {
            if message.first() == Some(&channel) {
                text.extend_from_slice(&message[1..]);
            }
        }
        String::from_utf8(text).expect("text")
    }
}

#[tokio::test]
async fn a_command_is_talked_to_and_its_end_is_told() {
    let server = server().await;
    let mut client = Client::open(&server, "web/exec?command=cat&stdin=true&stdout=true", "v5.channel.k8s.io").await;
    client.say(b"\x00hello").await;
    client.say(b"\x00 you").await;
    client.say(b"\x09nobody listens here").await;
    client.say(b"\xff\x00").await;
    let mut said = Vec::new();
    let status = loop {
        let message = client.hear().await.expect("a status before the end");
        match message[0] {
            1 => said.extend_from_slice(&message[1..]),
            channel => break (channel, serde_json::from_slice::<Value>(&message[1..]).expect("a status")),
        }
    };
    assert_eq!(said, b"hello you");
    assert_eq!((status.0, &status.1["reason"]), (3, &json!("NonZeroExitCode")));
    assert_eq!(status.1["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    assert_eq!(client.hear().await, None);
}

#[tokio::test]
async fn what_does_not_run_is_told_on_the_error_stream() {
    let server = server().await;
    for (path, expected) in [
        ("web/attach?stdout=true", "unable to upgrade connection: container not found (\"app\")"),
        ("web/exec?stdout=true&command=none", "error executing command in container: no such program"),
    ] {
        let mut client = Client::open(&server, path, "v4.channel.k8s.io").await;
        let status: Value = serde_json::from_str(&client.hear_all(3).await).expect("a status");
        assert_eq!(status["message"], format!("Internal error occurred: {expected}"));
    }
    let mut client = Client::open(&server, "web/exec?stdout=true&command=none", "base64.channel.k8s.io").await;
    assert_eq!(client.hear().await, Some(b"1".to_vec()));
    assert!(client.hear().await.is_some_and(|message| message.starts_with(b"3SW50ZXJuYWwg")), "the bare message");
}

#[tokio::test]
async fn requests_that_cannot_become_streams_are_refused() {
    let server = server().await;
    let v4 = socket("v4.channel.k8s.io");
    let soap = socket("soap");
    let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9")];
    for (path, headers, code, expected) in [
        ("none/exec?command=ls&stdout=true", &v4[..], 404, "pods \"none\" not found"),
        (
            "two/exec?command=ls&stdout=true",
            &v4[..],
            400,
            "a container name must be specified for pod two, choose one of: [a b]",
        ),
        ("two/attach?container=c&stdout=true", &v4[..], 400, "container c is not valid for pod two"),
        ("idle/exec?command=ls&stdout=true", &v4[..], 400, "pod idle does not have a host assigned"),
        ("web/exec?command=ls&stdout=true", &[][..], 400, "Upgrade request required"),
        ("web/exec?command=ls", &v4[..], 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("web/exec?stdout=true", &v4[..], 400, "you must specify at least one command for the container"),
        ("web/exec?command=ls&stdout=true", &soap[..], 403, "requested protocol(s) are not supported: [soap]"),
        ("web/exec?command=ls&stdout=true", &spdy[..], 403, "unable to negotiate protocol: client supports [v9]"),
        ("web/portforward", &v4[..], 400, "query parameter \"port\" is required"),
        ("web/portforward?ports=80,x", &v4[..], 400, "unable to parse \"x\" as a port"),
    ] {
        let response = ask(&server, path, headers).await;
        assert_eq!(response.status().as_u16(), code, "{path}");
        let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
        let text = match serde_json::from_slice::<Value>(&body) {
            Ok(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        assert!(text.contains(expected), "{path}: {text}");
    }
}

#[tokio::test]
async fn ports_are_forwarded_by_channels() {
    let server = server().await;
    let mut client = Client::open(&server, "web/portforward?ports=80,9", "v4.channel.k8s.io").await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(client.hear().await.expect("ports and a failure"));
    }
    for expected in [&[0, 80, 0][..], &[1, 80, 0], &[2, 9, 0], &[3, 9, 0]] {
        assert!(heard.iter().any(|message| message == expected), "{expected:?} in {heard:?}");
    }
    assert!(heard.iter().any(|message| message[0] == 3 && message.ends_with(b"nobody listens")), "{heard:?}");
    client.say(b"\x00ping").await;
    assert_eq!(client.hear().await, Some(b"\x00ping".to_vec()));
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> usize {
        // Knuth's generator; its upper half is as good as needed.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll() % from.len()]
    }
}

/// What clients say, and what they should not: whole frames of both protocols, then cut, repeated and changed.
fn strange_bytes(dice: &mut Dice) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"\x82\x83\0\0\0\0\0hi",
        b"\x82\x82\0\0\0\0\xff\0",
        b"\x02\x81\0\0\0\0\0",
        b"\x80\x81\0\0\0\0x",
        b"\x89\x80\0\0\0\0",
        b"\x88\x80\0\0\0\0",
        b"\x82\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0",
        b"\x82\xfe\x10\0\0\0\0\0",
        b"\x80\x03\0\x01\x01\0\0\x0a\0\0\0\x01\0\0\0\0\0\0",
        b"\x80\x03\0\x01\0\xff\xff\xff\0\0\0\x01",
        b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x01\0\0\0\x05",
        b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x01",
        b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0",
        b"\0\0\0\x01\0\0\0\x03abc",
        b"\0\0\0\x03\x01\0\0\0",
        b"\x78\xbb\xe3\xc6\xa7\xc2",
    ];
    let mut bytes = Vec::new();
    for _ in 0..dice.roll() % 24 {
        let mut piece = dice.pick(&PIECES).to_vec();
        match dice.roll() % 4 {
            0 => piece.truncate(dice.roll() % piece.len()),
            1 => {
                let place = dice.roll() % piece.len();
                piece[place] = dice.roll().to_le_bytes()[0];
            }
            _ => {}
        }
        bytes.append(&mut piece);
    }
    bytes
}

#[tokio::test]
async fn no_client_is_too_strange() {
    let server = server().await;
    let spdy = |version| [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", version)];
    let (v5, v4, old) = (socket("v5.channel.k8s.io"), socket("v4.channel.k8s.io"), socket("base64.channel.k8s.io"));
    let (tunnel, command, ports) =
        (socket("SPDY/3.1+portforward.k8s.io"), spdy("v4.channel.k8s.io"), spdy("portforward.k8s.io"));
    let exec = "web/exec?command=cat&stdin=true&stdout=true&tty=true";
    let ways: [(&str, &[(&str, &str)]); 7] = [
        (exec, &v5),
        (exec, &old),
        (exec, &command),
        ("web/attach?stdout=true", &command),
        ("web/portforward", &tunnel),
        ("web/portforward", &ports),
        ("web/portforward?ports=80,9", &v4),
    ];
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (path, headers) = dice.pick(&ways);
        let response = ask(&server, path, headers).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
        let connection = hyper::upgrade::on(response).await.expect("a connection");
        let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
        let said = async {
            // Whoever is not understood is hung up on.
            let _hung_up = write.write_all(&strange_bytes(&mut dice)).await;
            let _gone = write.shutdown().await;
        };
        let heard = async { tokio::io::copy(&mut read, &mut tokio::io::sink()).await };
        let over = tokio::time::timeout(PATIENCE, async { tokio::join!(said, heard) }).await;
        assert!(over.is_ok(), "seed {seed}: {path} never ends");
    }
    let mut client = Client::open(&server, "web/exec?command=cat&stdin=true&stdout=true", "v5.channel.k8s.io").await;
    client.say(b"\x00still there").await;
    assert_eq!(client.hear().await, Some(b"\x01still there".to_vec()));
}
