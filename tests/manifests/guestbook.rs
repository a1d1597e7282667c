//! A web shop's back end in one file: counts visits in Redis, and says so.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, io, thread};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = answer(client) {
                eprintln!("request failed: {error}");
            }
        });
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for header in &mut lines {
        if header?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match path {
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/readyz" => said(redis("PING")),
        _ => said(redis("INCR visits").map(|n| format!("visit {n} to {}\n", env::var("GREETING").unwrap_or_default()))),
    };
    write!(client, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn said(result: io::Result<String>) -> (&'static str, String) {
    match result {
        Ok(text) => ("200 OK", text),
        Err(error) => ("503 Service Unavailable", format!("redis: {error}\n")),
    }
}

/// Asks one question of the server that `$REDIS_HOST` names.
fn redis(command: &str) -> io::Result<String> {
    let host = env::var("REDIS_HOST").unwrap_or_else(|_| "redis".to_owned());
    let mut server = TcpStream::connect((host, 6379))?;
    server.set_read_timeout(Some(PATIENCE))?;
    write!(server, "{command}\r\nQUIT\r\n")?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let line = answer.lines().next().unwrap_or_default();
    match line.split_at_checked(1) {
        Some((":" | "+", value)) => Ok(value.to_owned()),
        _ => Err(io::Error::other(format!("answered `{line}`"))),
    }
}
