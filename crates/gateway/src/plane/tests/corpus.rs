//! Requests byte by byte against a live plane: what a backend gets of them, and what is refused.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::town::{Backend, DEADLINE, Town};

const REQUESTS: &str = include_str!("../../../tests/corpus/requests.txt");

/// One case of the file.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// What the backend gets, in order.
    passes: Vec<String>,
    /// Status and reason of the answer that ends the connection.
    refused: Option<(u16, String)>,
}

pub(super) fn cases() -> Vec<Case> {
    let blocks = REQUESTS.split("\n== ").skip(1);
    blocks.map(case).collect()
}

fn case(block: &str) -> Case {
    let mut lines = block.lines();
    let name = lines.next().expect("a name").to_owned();
    let mut case = Case { name, bytes: Vec::new(), passes: Vec::new(), refused: None };
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(expected) = line.strip_prefix("= ") else {
            case.bytes.extend(unescaped(line));
            continue;
        };
        match expected.split_once(' ').map(|(status, reason)| (status.parse(), reason)) {
            Some((Ok(status), reason)) => case.refused = Some((status, reason.to_owned())),
            _ => case.passes.push(expected.to_owned()),
        }
    }
    case
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = line.bytes();
    while let Some(byte) = chars.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let escape = chars.next().expect("something is escaped");
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b's' => b' ',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let mut digit = || char::from(chars.next().expect("a digit")).to_digit(16).expect("a digit");
                (digit() * 16 + digit()) as u8
            }
            other => panic!("unknown escape `{}` in {line}", char::from(other)),
        });
    }
    bytes
}

/// A backend that writes down what it gets, and reads it by rules of its own: a head, then as many bytes as that says.
struct Recorder {
    seen: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Recorder {
    fn start(listener: TcpListener) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = seen.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, all.clone()));
            }
        });
        Self { seen, server }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        while let Some((request, length)) = whole(&bytes) {
            bytes.drain(..length);
            seen.lock().expect("not poisoned").push(request);
            let answered = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            if answered.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

/// The first request of these bytes, if all of it is there, and its length.
fn whole(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("the gateway sends text");
    let mut lines = head.split("\r\n");
    let line = lines.next()?.strip_suffix(" HTTP/1.1").expect("the gateway speaks HTTP/1.1").to_owned();
    let fields: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let rest = &bytes[end..];
    let (body, length) = match (value("content-length"), value("transfer-encoding")) {
        (Some(_), Some(_)) => panic!("framed twice: {head}"),
        (Some(length), None) => {
            let length = length.parse().expect("a length");
            (rest.get(..length)?.to_vec(), length)
        }
        (None, Some("chunked")) => chunks(rest)?,
        (None, None) => (Vec::new(), 0),
        (None, Some(other)) => panic!("an unknown coding: {other}"),
    };
    let body = body.escape_ascii().to_string();
    let request = if body.is_empty() { line } else { format!("{line} {body}") };
    Some((request, end + length))
}

/// As the gateway writes them, without extensions and trailers.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size =
            std::str::from_utf8(&bytes[at..at + line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.expect("a size");
        let data = at + line + 2;
        let next = data + size + 2;
        assert_eq!(bytes.get(data + size..next)?, b"\r\n");
        body.extend_from_slice(&bytes[data..data + size]);
        at = next;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// Everything that comes until the connection ends or there are so many answers with 200.
async fn answers(stream: &mut TcpStream, until: Option<usize>) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if until.is_some_and(|count| text.matches("\r\n\r\nok").count() >= count)
                || !matches!(stream.read_buf(&mut bytes).await, Ok(1..))
            {
                return text;
            }
        }
    };
    timeout(DEADLINE / 4, reading).await.unwrap_or_else(|_| "no answer in time".to_owned())
}

async fn town() -> (Town, Recorder, Backend) {
    let mut town = Town::new(1);
    let mut backend = Backend::start("recorder").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let recorder = Recorder::start(listener);
    town.add("shop", &backend, "v1");
    town.publish().await;
    (town, recorder, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_two_requests_for_one_or_reads_what_is_in_doubt() {
    let (town, recorder, _backend) = town().await;
    let cases = cases();
    assert!(cases.len() > 80, "{} cases", cases.len());
    let mut wrong = Vec::new();
    // At once, and byte by byte.
    for whole in [true, false] {
        for case in &cases {
            let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
            stream.set_nodelay(true).expect("a socket");
            // The gateway may have refused before all is written.
            for piece in case.bytes.chunks(if whole { usize::MAX } else { 1 }) {
                let _ = stream.write_all(piece).await;
            }
            let until = case.refused.is_none().then_some(case.passes.len());
            let text = answers(&mut stream, until).await;
            let seen = recorder.take();
            let refused = case.refused.as_ref().is_none_or(|(status, reason)| {
                let last = text.rfind("HTTP/1.1 ").map_or("", |at| &text[at..]);
                last.starts_with(&format!("HTTP/1.1 {status} "))
                    && last.contains(&format!("x-sluice-reason: {reason}\r\n"))
            });
            if seen != case.passes || !refused {
                wrong.push(format!("{}: the backend got {seen:?}, the client {text:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // All of them were counted, none by hyper behind our back.
    let refused = 2 * cases.iter().filter(|case| case.refused.is_some()).count() as u64;
    assert_eq!(town.plane().refusals().values().sum::<u64>(), refused);
}
