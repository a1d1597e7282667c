//! What runs beside the containers: hooks and exec probes, each with an end that somebody waits for.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::process::Pid;

use super::{adopt::Adopted, streams::Ends};
use crate::lifecycle::Moment;

/// What is kept of a command's output.
const MAX_OUTPUT_BYTES: usize = 10 * 1024;
/// What an HTTP hook may answer before its status line.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// The hook's server is on this machine: it takes the connection at once or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Side {
    pub(super) container: usize,
    pub(super) purpose: Purpose,
    pub(super) work: Work,
    /// When a probe is given up, or a sleep is over.
    pub(super) deadline_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Hook(Moment),
    /// A call on a connection waits for the outcome.
    Probe {
        connection: u64,
        call: u64,
    },
    /// A command that somebody talks to, for as long as it likes.
    Session {
        connection: u64,
        call: u64,
    },
}

#[derive(Debug)]
pub(super) enum Work {
    Process {
        pid: Pid,
        pipes: [Option<OwnedFd>; 2],
        output: Vec<u8>,
    },
    /// A command that a lost supervisor has started.
    Adopted {
        process: Adopted,
        pipe: Option<OwnedFd>,
        output: Vec<u8>,
    },
    Sleep,
    Http {
        stream: TcpStream,
        head: Vec<u8>,
    },
}

impl Work {
    pub(super) fn process(pid: Pid, ends: Ends) -> Self {
        Self::Process { pid, pipes: [ends.stdout, ends.stderr], output: Vec::new() }
    }

    /// Sends the request; the answer comes by [`Work::read_http`].
    pub(super) fn http(address: &str, port: u16, path: &str, headers: &[(String, String)]) -> io::Result<Self> {
        let ip: IpAddr = address
            .parse()
            .map_err(|_| io::Error::other(format!("`{address}` is not an IP address, and hooks look up no names")))?;
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT_TIMEOUT)?;
        let mut request =
            format!("GET {path} HTTP/1.1\r\nConnection: close\r\nAccept: */*\r\nUser-Agent: kube-lifecycle/1.35\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {address}:{port}\r\n"));
        }
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self::Http { stream, head: Vec::new() })
    }

    /// Reads what a command has written.
    pub(super) fn drain(&mut self) {
        let (pipes, output): (&mut [Option<OwnedFd>], _) = match self {
            Self::Process { pipes, output, .. } => (pipes, output),
            Self::Adopted { pipe, output, .. } => (std::slice::from_mut(pipe), output),
            Self::Sleep | Self::Http { .. } => return,
        };
        let mut buffer = [0u8; 4096];
        for pipe in pipes {
            while let Some(fd) = &*pipe {
                match rustix::io::read(fd, &mut buffer) {
                    Ok(0) => *pipe = None,
                    Ok(length) => {
                        let room = MAX_OUTPUT_BYTES - output.len();
                        output.extend_from_slice(&buffer[..length.min(room)]);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(_) => *pipe = None,
                }
            }
        }
    }

    /// The verdict of an HTTP hook, once its status line is here.
    pub(super) fn read_http(&mut self) -> Option<Result<(), String>> {
        let Self::Http { stream, head } = self else { return None };
        let mut buffer = [0u8; 1024];
        loop {
            let ended = match stream.read(&mut buffer) {
                Ok(0) => true,
                Ok(length) => {
                    head.extend_from_slice(&buffer[..length]);
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                Err(error) => return Some(Err(error.to_string())),
            };
            if let Some(end) = head.iter().position(|byte| *byte == b'\n') {
                return Some(status_line(&String::from_utf8_lossy(&head[..end])));
            }
            if ended || head.len() > MAX_HEAD_BYTES {
                return Some(Err("the answer is not HTTP".to_owned()));
            }
        }
    }
}

fn status_line(line: &str) -> Result<(), String> {
    let status: Option<u16> =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    match status {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_succeeds_below_400() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK\r", Ok(())),
            ("HTTP/1.0 302 Found\r", Ok(())),
            ("HTTP/1.1 500 Oh\r", Err("HTTP status 500".to_owned())),
            ("SSH-2.0", Err("the answer is not HTTP".to_owned())),
        ] {
            assert_eq!(status_line(line), expected, "{line}");
        }
    }
}
