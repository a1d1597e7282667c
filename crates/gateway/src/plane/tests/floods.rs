//! Clients of HTTP/2 that send frames which cost them less than us.

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::town::{Backend, DEADLINE, Town};
use crate::plane::limits;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that nobody is to remember; names and values below 127 bytes.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).expect("short")], text].concat();
    [vec![0], text(name), text(value)].concat()
}

fn head(path: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)] {
        if !more.iter().any(|(other, _)| *other == name) {
            block.extend(field(name.as_bytes(), value.as_bytes()));
        }
    }
    // Those of the protocol come first, whoever wrote them.
    let (own, others): (Vec<_>, Vec<_>) = more.iter().partition(|(name, _)| name.starts_with(':'));
    block.extend(own.into_iter().chain(others).flat_map(|(name, value)| field(name.as_bytes(), value)));
    block
}

async fn town() -> (Town, Backend) {
    let mut town = Town::impatient(serde_json::json!([{"backendRefs": [{"name": "shop", "port": 80}]}]));
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    (town, backend)
}

/// Sends all of it until the gateway ends the connection, which must not take others' connections along. Reads only if told so.
async fn flood(town: &Town, reads: bool, frames: impl Iterator<Item = Vec<u8>> + Send + 'static) {
    let mut bystander = town.client().await;
    assert_eq!(bystander.get("/").await.0, 200);
    let stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let (mut reader, mut writer) = stream.into_split();
    let drain = tokio::spawn(async move {
        if reads {
            // To its end or reset.
            let _ = reader.read_to_end(&mut Vec::new()).await;
        } else {
            std::future::pending::<()>().await;
        }
    });
    let flooding = async {
        writer.write_all(PREFACE).await?;
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        for frames in frames {
            writer.write_all(&frames).await?;
        }
        std::io::Result::Ok(())
    };
    let ended = timeout(DEADLINE, flooding).await.expect("an end in time");
    if ended.is_ok() {
        assert!(reads, "all of it was taken");
        timeout(DEADLINE, drain).await.expect("the gateway ends the connection").expect("read");
    } else {
        drain.abort();
    }
    assert_eq!(bystander.get("/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_as_soon_as_they_are_made_end_the_connection() {
    let (town, _backend) = town().await;
    let frames = (0..10_000_u32).map(|number| {
        let stream = 2 * number + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("/", &[]));
        [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let all: Vec<u8> = frames.flatten().collect();
    flood(&town, true, std::iter::once(all)).await;
    let requests: u64 = town.requests().values().sum();
    assert!(requests < 1000, "{requests} requests reached a backend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_their_client_makes_us_reset_end_the_connection() {
    let (town, _backend) = town().await;
    let frames = (0..2_000_u32).map(|number| {
        let stream = 2 * number + 1;
        let request = frame(HEADERS, END_HEADERS, stream, &head("/hold", &[]));
        [request, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
    });
    flood(&town, true, frames).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_without_end_end_the_connection() {
    let (town, _backend) = town().await;
    for piece in [field(b"x", &[b'y'; 100]).repeat(100), field(b"x", b""), Vec::new()] {
        let first = frame(HEADERS, END_STREAM, 1, &head("/", &[]));
        let frames = std::iter::once(first).chain((0..200_000).map(move |_| frame(CONTINUATION, 0, 1, &piece)));
        flood(&town, true, frames).await;
    }
    assert!(town.requests().values().sum::<u64>() <= 6, "only the bystander's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_whose_answers_nobody_reads_end_the_connection() {
    let (town, _backend) = town().await;
    for question in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        // As many as needed until the gateway does not take any more; then its patience ends.
        let many = question.repeat(1000);
        flood(&town, false, std::iter::repeat_with(move || many.clone())).await;
    }
}

type Fields = &'static [(&'static str, &'static [u8])];

/// What became of stream 1.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered(u8),
    /// Reset, or the connection ended with it.
    Refused,
}

/// The first byte of an answer's head is its status in the static table, if it is one of those that are there.
const OK: Fate = Fate::Answered(0x88);
const BAD_REQUEST: Fate = Fate::Answered(0x8c);
const OTHER: Fate = Fate::Answered(0x48);

async fn fate(town: &Town, frames: &[u8]) -> Fate {
    let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let settings = frame(SETTINGS, 0, 0, &[]);
    stream.write_all(&[PREFACE, &settings, frames].concat()).await.expect("written");
    let reading = async {
        loop {
            let mut header = [0; 9];
            if stream.read_exact(&mut header).await.is_err() {
                return Fate::Refused;
            }
            let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return Fate::Refused;
            }
            match header[3] {
                HEADERS => return Fate::Answered(payload[0]),
                RST_STREAM | GOAWAY => return Fate::Refused,
                _ => {}
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_said_in_http1_is_not_sent_on() {
    let (town, _backend) = town().await;
    let cases: &[(&str, Fields, Fate)] = &[
        ("a plain request", &[("x", b"1")], OK),
        ("two lines in a value", &[("x", b"1\r\ny: 2")], Fate::Refused),
        ("a line feed", &[("x", b"1\ny: 2")], Fate::Refused),
        ("a NUL", &[("x", b"1\0")], Fate::Refused),
        ("a colon in a name", &[("x:y", b"1")], Fate::Refused),
        ("a space in a name", &[("x ", b"1")], Fate::Refused),
        ("lines in a name", &[("x\r\ny", b"1")], Fate::Refused),
        ("a name in capitals", &[("X", b"1")], Fate::Refused),
        ("a transfer coding", &[("transfer-encoding", b"chunked")], Fate::Refused),
        ("a connection header", &[("connection", b"x")], Fate::Refused),
        ("an upgrade", &[("upgrade", b"websocket")], Fate::Refused),
        ("a proxy's connection", &[("proxy-connection", b"x")], Fate::Refused),
        ("codings beside trailers", &[("te", b"gzip")], Fate::Refused),
        ("trailers", &[("te", b"trailers")], OK),
        ("a length without a body", &[("content-length", b"5")], Fate::Refused),
        ("a length that is none", &[("content-length", b"+0")], Fate::Refused),
        ("lines in the path", &[(":path", b"/ HTTP/1.1\r\nx: y")], Fate::Refused),
        ("a space in the path", &[(":path", b"/a b")], Fate::Refused),
        ("no slash", &[(":path", b"a")], Fate::Refused),
        ("an empty path", &[(":path", b"")], Fate::Refused),
        ("a way upwards", &[(":path", b"/a/../b")], BAD_REQUEST),
        ("a backslash", &[(":path", b"/a\\b")], BAD_REQUEST),
        ("lines in the method", &[(":method", b"GET / HTTP/1.1\r\n")], Fate::Refused),
        ("a user in the authority", &[(":authority", b"u@a")], BAD_REQUEST),
        ("lines in the authority", &[(":authority", b"a\r\nx: y")], Fate::Refused),
        ("another host", &[("host", b"b")], BAD_REQUEST),
        ("the same host", &[("host", b"a")], OK),
        ("the same host twice", &[("host", b"a"), ("host", b"a")], BAD_REQUEST),
        ("a field of the protocol that is none", &[(":x", b"1")], Fate::Refused),
        ("CONNECT with a path", &[(":method", b"CONNECT")], Fate::Refused),
        ("WebSocket", &[(":method", b"CONNECT"), (":protocol", b"websocket")], Fate::Refused),
        ("an expectation that nobody knows", &[("expect", b"a-miracle")], OTHER),
    ];
    let mut wrong = Vec::new();
    for (what, fields, expected) in cases {
        let found = fate(&town, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("/", fields))).await;
        if found != *expected {
            wrong.push(format!("{what}: {found:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let passed = cases.iter().filter(|(_, _, fate)| *fate == OK).count() as u64;
    assert_eq!(town.requests()["v1"], passed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_another_length_than_was_said_is_no_request() {
    let (town, _backend) = town().await;
    let post = |length: &'static [u8]| {
        frame(HEADERS, END_HEADERS, 1, &head("/echo", &[(":method", b"POST"), ("content-length", length)]))
    };
    let data = |flags| frame(DATA, flags, 1, b"abc");
    assert_eq!(fate(&town, &[post(b"3"), data(END_STREAM)].concat()).await, OK);
    for length in [b"2", b"4"] {
        assert_eq!(fate(&town, &[post(length), data(END_STREAM)].concat()).await, Fate::Refused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_grows_when_it_is_unpacked_is_refused() {
    let (town, _backend) = town().await;
    // A field of 4000 bytes that is remembered (index 62), and named again and again by one byte.
    let value = vec![b'x'; 100];
    let remembered = [&[0x40, 1, b'x', 100][..], &value].concat();
    let times = 2 * limits::HEAD_BYTES / value.len();
    let block = [head("/", &[]), remembered, vec![0xbe; times]].concat();
    let found = fate(&town, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    assert_ne!(found, OK);
    assert!(town.requests().is_empty());
    assert_eq!(town.client().await.send(Request::get("/"), "").await.0, 200);
}
