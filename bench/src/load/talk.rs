//! Clients of WebSocket: each message comes back, and each connection ends with a close that both sides have said.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::body::pattern;
use super::client::{Door, HOST, Wire, words};
use super::draws::Draws;
use super::run::Run;
use super::tally::Protocol;
use super::websocket::{ACCEPT, BINARY, CLOSE, GOING_AWAY, KEY, NORMAL, read, write};

const PATIENCE: Duration = Duration::from_secs(30);

/// How long conversations are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// Some dozens of messages.
    Short,
    /// Until the run is over, with pauses: longer than any drain.
    Long,
}

enum End {
    Said,
    /// The gateway has closed it with the code for that.
    Drained,
}

pub(super) async fn websocket(run: Arc<Run>, door: Door, length: Length, mut draws: Draws) {
    while !run.is_over() {
        match conversation(&run, &door, length, &mut draws).await {
            Ok(End::Said) => {}
            Ok(End::Drained) => run.tally.drained(Protocol::WebSocket),
            Err(why) => run.tally.failed(Protocol::WebSocket, &format!("{length:?}: {why}")),
        }
    }
}

async fn conversation(run: &Run, door: &Door, length: Length, draws: &mut Draws) -> Result<End, String> {
    let wire = timeout(PATIENCE, door.connect()).await.map_err(|_| "no connection in time")?;
    let wire = wire.map_err(|error| format!("connect: {}", words(&error)))?;
    let mut stream = BufReader::new(wire);
    timeout(PATIENCE, shake_hands(&mut stream)).await.map_err(|_| "no handshake in time")??;
    run.tally.well(Protocol::WebSocket);
    let messages = if length == Length::Long { u64::MAX } else { draws.between(1, 60) };
    for number in 0..messages {
        if run.is_over() {
            break;
        }
        if length == Length::Long {
            tokio::time::sleep(Duration::from_millis(draws.between(5, 60))).await;
        }
        match timeout(PATIENCE, say(&mut stream, draws)).await {
            Err(_) => return Err(format!("message {number} does not come back")),
            Ok(Ok(None)) => run.tally.well(Protocol::WebSocket),
            Ok(Ok(Some(end))) => return Ok(end),
            Ok(Err(error)) => return Err(format!("message {number}: {error}")),
        }
    }
    timeout(PATIENCE, close(&mut stream))
        .await
        .map_err(|_| "the close is not answered")?
        .map_err(|error| format!("close: {error}"))
}

async fn shake_hands(stream: &mut BufReader<Box<dyn Wire>>) -> Result<(), String> {
    let request = format!(
        "GET /mixed/talk HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("handshake: {error}"))?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head).await {
            Ok(1..) => {}
            Ok(0) => return Err(format!("the handshake broke off: {head}")),
            Err(error) => return Err(format!("handshake: {error}")),
        }
    }
    let well = head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT);
    if well { Ok(()) } else { Err(format!("no WebSocket: {head}")) }
}

fn mask(draws: &mut Draws) -> Option<[u8; 4]> {
    Some((draws.next() as u32).to_be_bytes())
}

/// Says something and hears it again; or that the gateway goes away.
async fn say(stream: &mut BufReader<Box<dyn Wire>>, draws: &mut Draws) -> std::io::Result<Option<End>> {
    let long = if draws.one_in(30) { 60_000 } else { 900 };
    let payload = pattern(draws.next() % 251, draws.between(0, long) as usize);
    let said = write(stream, BINARY, &payload, mask(draws)).await;
    let heard = read(stream).await?;
    if heard.kind == CLOSE && heard.code() == Some(GOING_AWAY) {
        // The rules want an answer; the other side may have gone by now.
        let _ = write(stream, CLOSE, &GOING_AWAY.to_be_bytes(), mask(draws)).await;
        return Ok(Some(End::Drained));
    }
    said?;
    if heard.kind != BINARY || heard.payload != *payload {
        return Err(std::io::Error::other(format!(
            "kind {}, {} bytes came back for {}",
            heard.kind,
            heard.payload.len(),
            payload.len()
        )));
    }
    Ok(None)
}

async fn close(stream: &mut BufReader<Box<dyn Wire>>) -> std::io::Result<End> {
    write(stream, CLOSE, &NORMAL.to_be_bytes(), Some([1, 2, 3, 4])).await?;
    let heard = read(stream).await?;
    match (heard.kind, heard.code()) {
        (CLOSE, Some(NORMAL)) => Ok(End::Said),
        (CLOSE, Some(GOING_AWAY)) => Ok(End::Drained),
        other => Err(std::io::Error::other(format!("answered by {other:?}"))),
    }
}
