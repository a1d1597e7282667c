//! A client of a listener that comes and goes: it is refused while there is none, and served in all other respects.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::body::Order;
use super::client::{Door, HOST};
use super::draws::Draws;
use super::run::{Run, count};
use super::tally::Protocol;

const PATIENCE: Duration = Duration::from_secs(30);

/// New connections, with a request each.
pub(super) async fn client(run: Arc<Run>, door: Door, mut draws: Draws) {
    while !run.is_over() {
        tokio::time::sleep(Duration::from_millis(draws.between(0, 4))).await;
        let mut stream = match door.connect().await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                count(&run.tally.absent);
                continue;
            }
            Err(error) => {
                run.tally.failed(Protocol::Http1, &format!("passing listener: connect: {error}"));
                continue;
            }
        };
        let order = Order { seed: draws.below(100), sends: 0, gets: draws.between(0, 500) as usize, in_parts: false };
        let request = format!("GET /mixed/{} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n", order.path());
        let mut answer = Vec::new();
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut answer).await
        };
        let text = String::from_utf8_lossy;
        match timeout(PATIENCE, asked).await {
            Ok(Ok(_)) if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&order.answer()) => {
                run.tally.well(Protocol::Http1);
                count(&run.tally.passing);
            }
            Ok(Ok(_)) => run.tally.failed(Protocol::Http1, &format!("passing listener: answered {}", text(&answer))),
            Ok(Err(error)) => {
                run.tally.failed(Protocol::Http1, &format!("passing listener: {error} after {:?}", text(&answer)));
            }
            Err(_) => run.tally.failed(Protocol::Http1, "passing listener: no answer in time"),
        }
    }
}
