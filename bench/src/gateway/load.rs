//! Requests, as fast as they are answered, counted by tools that everybody knows.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use anyhow::Context as _;

use super::proxies::{HOST, Proxy};
use crate::engine::on_processor;

/// How clients speak to the proxy; to the backend, everybody speaks HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Plain,
    /// With prior knowledge, one request at a time on each connection.
    H2,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::H2 => "h2",
        }
    }
}

/// How many requests were answered, all of them well.
pub(super) fn drive(
    protocol: Protocol,
    proxy: &Proxy,
    body: &str,
    connections: usize,
    seconds: u64,
    pinned: bool,
) -> anyhow::Result<u64> {
    let (connections, seconds) = (connections.to_string(), seconds.to_string());
    let (program, arguments, addressed, port) = match protocol {
        Protocol::Plain => ("wrk", ["-t1", "-c", &connections, "-d", &seconds], "Host", proxy.plain),
        Protocol::H2 => ("h2load", ["-t1", "-c", &connections, "-D", &seconds], ":authority", proxy.h2),
    };
    let mut command = on_processor(program, pinned.then_some(1));
    command
        .args(arguments)
        .args(["-H", &format!("{addressed}: {HOST}")])
        .arg(format!("http://127.0.0.1:{port}/{body}"));
    let text = said(&mut command)?;
    let (answered, failed) = match protocol {
        Protocol::Plain => wrk(&text),
        Protocol::H2 => h2load(&text),
    }
    .with_context(|| format!("{program} says: {text}"))?;
    anyhow::ensure!(failed == 0 && answered > 0, "{} failed {failed} of {answered} requests: {text}", proxy.name);
    Ok(answered)
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Answered and failed requests of `wrk`, which says nothing of errors when there are none.
fn wrk(text: &str) -> Option<(u64, u64)> {
    let answered = text.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok())?;
    let wrong = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: ")?.parse().ok());
    let errors = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors: "));
    let errors = errors.into_iter().flat_map(|line| line.split([' ', ','])).filter_map(|word| word.parse::<u64>().ok());
    Some((answered, wrong.unwrap_or(0) + errors.sum::<u64>()))
}

/// The same of `h2load`: `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`.
fn h2load(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let of = |what: &str| line.split(", ").find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok());
    Some((of("succeeded")?, of("failed")? + of("errored")? + of("timeout")?))
}

/// Connections that have had their answer and stay open.
pub(super) fn hold(proxy: &Proxy, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let connect = |_| -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.plain))?;
        write!(stream, "GET /0 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        anyhow::ensure!(head.starts_with(b"HTTP/1.1 200"), "{}: {}", proxy.name, String::from_utf8_lossy(&head));
        Ok(stream)
    };
    (0..count).map(connect).collect()
}
