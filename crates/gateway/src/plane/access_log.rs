//! One line for each request, when it is over.
//!
//! What follows the `?` of a target or a referer is left out: tokens travel there. Lines go to a thread that writes them; when
//! that cannot keep up they are dropped and counted, for no request waits for a log.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use http::header::{HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, Version, request};
use jiff::Timestamp;
use serde::Serialize;
use sluice_route::Endpoint;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::limits;
use crate::options::LogFormat;

/// What nginx says of a client that did not wait for its answer.
const CLIENT_GONE: u16 = 499;

/// Where lines go; the threads of all workers share it.
#[derive(Clone)]
pub(crate) struct AccessLog {
    format: LogFormat,
    sink: Arc<Sink>,
}

enum Order {
    Line(String),
    /// Everything before is to be written by now.
    Drained(oneshot::Sender<()>),
}

struct Sink {
    orders: SyncSender<Order>,
    /// Bytes that are not written yet.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Ends with the last handle to it, or with `out`.
    pub(crate) fn start(format: LogFormat, out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (orders, given) = sync_channel(limits::LOG_LINES);
        let sink = Arc::new(Sink { orders, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
        let weak = Arc::downgrade(&sink);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let settle = |bytes| {
                if let Some(sink) = weak.upgrade() {
                    sink.waiting.fetch_sub(bytes, Ordering::Relaxed);
                    sink.confess();
                }
            };
            if let Err(error) = write_all(&given, out, settle) {
                tracing::error!(%error, "Access log ended");
            }
        })?;
        Ok(Self { format, sink })
    }

    /// Waits until everything is written, within reason.
    pub(crate) async fn drained(&self) {
        let (tell, told) = oneshot::channel();
        if self.sink.orders.try_send(Order::Drained(tell)).is_ok() {
            let _in_time = timeout(limits::LOG_DRAIN, told).await;
        }
    }
}

fn write_all(orders: &Receiver<Order>, mut out: impl Write, settle: impl Fn(usize)) -> std::io::Result<()> {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Line(line) => {
                out.write_all(line.as_bytes())?;
                out.flush()?;
                settle(line.len());
            }
            // Whoever waited may have lost patience.
            Order::Drained(told) => drop(told.send(())),
        }
    }
    Ok(())
}

impl Sink {
    fn put(&self, line: String) {
        let bytes = line.len();
        let full = self.waiting.fetch_add(bytes, Ordering::Relaxed) > limits::LOG_BYTES;
        if full || self.orders.try_send(Order::Line(line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines were lost, once there is room again.
    fn confess(&self) {
        let lines = self.dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "Lines of the access log dropped: whoever reads it is too slow");
        }
    }
}

/// A request on its way to its line, which is written when this is dropped.
pub(crate) struct Entry {
    log: AccessLog,
    line: Line,
    started: Instant,
}

/// All of what may be said of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: Timestamp,
    client: String,
    method: String,
    host: String,
    path: String,
    protocol: &'static str,
    status: u16,
    /// Of the answer's body.
    bytes: u64,
    seconds: f64,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<Backend>,
    /// Why the gateway answered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Backend {
    pod: String,
    address: String,
    version: String,
}

impl Entry {
    pub(crate) fn new(log: &AccessLog, head: &request::Parts, client: String, id: &str) -> Self {
        let line = Line {
            client,
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            protocol: protocol(head.version),
            status: CLIENT_GONE,
            request_id: id.to_owned(),
            referer: text(&head.headers, &REFERER).map(without_query),
            user_agent: text(&head.headers, &USER_AGENT),
            ..Line::default()
        };
        Self { log: log.clone(), line, started: Instant::now() }
    }

    /// The head that was given is not the client's.
    pub(crate) fn was_not_understood(&mut self) {
        let unknown = || "-".to_owned();
        self.line = Line {
            method: unknown(),
            host: unknown(),
            path: unknown(),
            protocol: "-",
            ..std::mem::take(&mut self.line)
        };
    }

    pub(crate) fn asked_for(&mut self, host: &str) {
        host.clone_into(&mut self.line.host);
    }

    /// Whom the request was sent to last.
    pub(crate) fn sent_to(&mut self, endpoint: &Endpoint) {
        self.line.backend = Some(Backend {
            pod: endpoint.uid.to_string(),
            address: endpoint.address.to_string(),
            version: endpoint.version.hash.clone(),
        });
    }

    pub(crate) fn answered(&mut self, status: u16, reason: Option<&'static str>) {
        (self.line.status, self.line.reason) = (status, reason);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.line.bytes += bytes as u64;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let line = Line {
            time: Timestamp::now(),
            seconds: self.started.elapsed().as_micros() as f64 / 1e6,
            ..std::mem::take(&mut self.line)
        };
        self.log.sink.put(line.written(self.log.format));
    }
}

impl Line {
    fn written(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Json => serde_json::to_string(self).map(|line| line + "\n").unwrap_or_default(),
            LogFormat::Combined => self.combined(),
        }
    }

    /// As Apache and nginx write it.
    fn combined(&self) -> String {
        let time = self.time.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let Self { client, method, path, protocol, status, bytes, .. } = self;
        let mut line = format!("{client} - - [{time}] \"");
        for (before, text) in [("", method.as_str()), (" ", path), (" ", protocol)] {
            line.push_str(before);
            quote(&mut line, text);
        }
        let _written = write!(line, "\" {status} {bytes}");
        for text in [&self.referer, &self.user_agent] {
            line.push_str(" \"");
            quote(&mut line, text.as_deref().unwrap_or("-"));
            line.push('"');
        }
        line.push('\n');
        line
    }
}

/// What could end the field, or the line, is written as `\x22`.
fn quote(line: &mut String, text: &str) {
    for char in text.chars() {
        if char == '"' || char == '\\' || char.is_control() {
            let _written = write!(line, "\\x{:02X}", u32::from(char));
        } else {
            line.push(char);
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn without_query(mut url: String) -> String {
    url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            time: "2026-03-01T12:00:00Z".parse().expect("a time"),
            client: "203.0.113.7".to_owned(),
            method: "GET".to_owned(),
            host: "shop.example".to_owned(),
            path: "/a\"b\n".to_owned(),
            protocol: "HTTP/1.1",
            status: 200,
            bytes: 12,
            seconds: 0.0015,
            request_id: "7f".to_owned(),
            referer: Some(without_query("https://shop.example/cart?token=secret#x".to_owned())),
            ..Line::default()
        }
    }

    #[test]
    fn a_line_says_all_and_ends_where_it_ends() {
        insta::assert_snapshot!(line().written(LogFormat::Json), @r#"{"time":"2026-03-01T12:00:00Z","client":"203.0.113.7","method":"GET","host":"shop.example","path":"/a\"b\n","protocol":"HTTP/1.1","status":200,"bytes":12,"seconds":0.0015,"requestId":"7f","referer":"https://shop.example/cart"}"#);
        insta::assert_snapshot!(line().written(LogFormat::Combined), @r#"203.0.113.7 - - [01/Mar/2026:12:00:00 +0000] "GET /a\x22b\x0A HTTP/1.1" 200 12 "https://shop.example/cart" "-""#);
    }

    /// Takes nothing until it is told to.
    struct Slow(Receiver<()>, std::sync::mpsc::Sender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ended = self.0.recv();
            let _gone = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_nothing_else() {
        let (go, may) = std::sync::mpsc::channel();
        let (out, found) = std::sync::mpsc::channel();
        let log = AccessLog::start(LogFormat::Json, Slow(may, out)).expect("a thread");
        let long = "x".repeat(limits::LOG_BYTES / 8);
        for _ in 0..100 {
            log.sink.put(format!("{long}\n"));
        }
        assert!(log.sink.waiting.load(Ordering::Relaxed) <= limits::LOG_BYTES + 2 * long.len());
        let dropped = log.sink.dropped.load(Ordering::Relaxed);
        assert!((80..100).contains(&dropped), "{dropped}");
        drop(go);
        for _ in 0..100 - dropped {
            assert_eq!(found.recv().expect("a line").len(), long.len() + 1);
        }
        drop(log);
        assert!(found.recv().is_err(), "the thread has ended");
    }
}
