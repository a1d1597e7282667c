//! What `sluice.dev/demo:TAG` is in these tests: a small HTTP server.
//!
//! `/` answers the tag, `/healthz` answers 503 while a file `sick` lies in the working directory. `$DELAY_MS` holds back the
//! first sign of life.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::ExitCode,
    time::Duration,
};

pub(crate) fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    std::thread::park_timeout(Duration::from_millis(variable("DELAY_MS").parse().unwrap_or(0)));
    let listener = TcpListener::bind(format!("{}:{}", variable("HOST"), variable("PORT"))).expect("our own address");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut request = String::new();
        if BufReader::new(&stream).read_line(&mut request).is_err() {
            continue;
        }
        let sick = request.starts_with("GET /healthz") && std::path::Path::new("sick").exists();
        let (status, body) = if sick { ("503 Sick", String::new()) } else { ("200 OK", variable("DEMO_VERSION")) };
        // A client that is gone is none of our business.
        let _ =
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    ExitCode::SUCCESS
}
