//! Connections over memory, whose clock only tests move; answers are made on the spot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::timeout;

use super::*;
use crate::plane::body::AnswerBody;
use crate::plane::patience::{Patience, Watch};
use crate::plane::tests::town::DEADLINE;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n";

/// The client's end of a connection that is held.
struct Visitor {
    stream: DuplexStream,
    held: JoinHandle<hyper::Result<()>>,
    stop: watch::Sender<bool>,
    patience: Patience,
}

/// Answers with the path, whatever there is of a body.
fn service(
    watch: Arc<Watch>,
) -> impl Fn(Request<Incoming>) -> std::future::Ready<Result<Response<ClientBody>, Infallible>> + Clone {
    move |request| {
        let path = Bytes::copy_from_slice(request.uri().path().as_bytes());
        let body = ClientBody::new(AnswerBody::Own(Some(path)), watch.enter());
        std::future::ready(Ok(Response::new(body)))
    }
}

impl Visitor {
    fn new() -> Self {
        let (stream, ours) = duplex(64 * 1024);
        let (patience, stop) = (Patience::default(), watch::Sender::new(false));
        let watch = patience.watch();
        let guard = Guard::new(ours, watch.clone());
        let held = tokio::task::spawn_local(hold(guard, stop.subscribe(), service(watch)));
        Self { stream, held, stop, patience }
    }

    async fn say(&mut self, words: &[u8]) {
        self.stream.write_all(words).await.expect("the other end is held");
    }

    /// The next answer's body.
    async fn answer(&mut self) -> String {
        let read = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.expect("an answer"));
            }
            let head = String::from_utf8(head).expect("text");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let mut body = vec![0; length.parse().expect("a number")];
            self.stream.read_exact(&mut body).await.expect("a body");
            String::from_utf8(body).expect("text")
        };
        timeout(DEADLINE, read).await.expect("an answer in time")
    }

    /// So much time goes by.
    async fn pass(&self, time: Duration) {
        for _ in 0..=time.as_secs() {
            self.patience.tick();
            settle().await;
        }
    }

    async fn ended(mut self) {
        let mut rest = Vec::new();
        let end = async { self.stream.read_to_end(&mut rest).await };
        timeout(DEADLINE, end).await.expect("an end in time").expect("an end");
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        // However it ends.
        let _ = self.held.await.expect("no panic");
    }
}

/// Everybody on this thread who was woken has had a turn, or several.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_left_of_a_silent_connection_is_its_guard() {
    let scene = async {
        let (mut client, ours) = duplex(1024);
        let patience = Patience::default();
        let (watch, stop) = (patience.watch(), watch::Sender::new(false));
        let guard = Guard::new(ours, watch.clone());
        let spoken = tokio::task::spawn_local(speak_http1(guard, stop.subscribe(), service(watch)));
        client.write_all(ASK).await.expect("written");
        settle().await;
        patience.tick();
        settle().await;
        assert!(!spoken.is_finished(), "a part of the first tick has passed before the answer");
        patience.tick();
        let guard = timeout(DEADLINE, spoken).await.expect("silent in time").expect("no panic").expect("no error");
        assert!(guard.is_some_and(|guard| guard.is_between_requests()));
        assert_eq!(client.read_u8().await.expect("the answer"), b'H');
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn silence_between_requests_and_within_them_loses_nothing() {
    let scene = async {
        let mut visitor = Visitor::new();
        let silence = 2 * limits::SILENCE;
        for path in ["/a", "/b"] {
            visitor.say(format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n").as_bytes()).await;
            assert_eq!(visitor.answer().await, path);
            visitor.pass(silence).await;
        }
        // One and a half, and the rest in two more pieces.
        visitor.say(b"GET /c HTTP/1.1\r\nhost: shop\r\n\r\nGET /d").await;
        assert_eq!(visitor.answer().await, "/c");
        visitor.pass(silence).await;
        visitor.say(b" HTTP/1.1\r\nho").await;
        visitor.pass(silence).await;
        visitor.say(b"st: shop\r\n\r\n").await;
        assert_eq!(visitor.answer().await, "/d");
        visitor.pass(silence).await;
        // An empty line, as some send after a body, is not the beginning of anything.
        visitor.say(b"\r\n").await;
        visitor.pass(silence).await;
        visitor.say(ASK).await;
        assert_eq!(visitor.answer().await, "/");
        visitor.stream.shutdown().await.expect("closed");
        visitor.ended().await;
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn a_silent_connection_is_kept_for_a_while_and_one_that_never_spoke_for_less() {
    let scene = async {
        for (asked, kept) in [(0, limits::HEAD_READ), (1, limits::IDLE), (2, limits::IDLE)] {
            let mut visitor = Visitor::new();
            for _ in 0..asked {
                visitor.say(ASK).await;
                assert_eq!(visitor.answer().await, "/");
            }
            settle().await;
            visitor.pass(kept - limits::SILENCE).await;
            assert!(!visitor.held.is_finished(), "asked {asked}");
            visitor.pass(2 * limits::SILENCE).await;
            visitor.ended().await;
        }
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn a_body_that_is_still_to_come_is_not_taken_for_a_request() {
    let scene = async {
        let mut visitor = Visitor::new();
        // The answer does not wait for it.
        visitor.say(b"POST /up HTTP/1.1\r\nhost: shop\r\ncontent-length: 30\r\n\r\n").await;
        assert_eq!(visitor.answer().await, "/up");
        visitor.pass(2 * limits::SILENCE).await;
        let _ = visitor.stream.write_all(ASK).await;
        visitor.ended().await;
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn a_stop_ends_connections_on_which_nothing_is_asked_for_a_moment() {
    let scene = async {
        for asked in [0, 1] {
            for silent in [false, true] {
                let mut visitor = Visitor::new();
                for _ in 0..asked {
                    visitor.say(ASK).await;
                    visitor.answer().await;
                }
                settle().await;
                if silent {
                    visitor.pass(2 * limits::SILENCE).await;
                }
                visitor.stop.send_replace(true);
                settle().await;
                // It was on its way: there is a moment for it.
                visitor.say(ASK).await;
                visitor.answer().await;
                visitor.pass(2 * limits::LAST_WORD).await;
                visitor.ended().await;
            }
        }
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn http2_is_known_by_its_first_words_however_they_come() {
    let scene = async {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for cut in [1, 3, preface.len() - 1, preface.len()] {
            let mut visitor = Visitor::new();
            visitor.say(&preface[..cut]).await;
            visitor.pass(2 * limits::SILENCE).await;
            visitor.say(&preface[cut..]).await;
            // An empty SETTINGS frame; the server's comes back.
            visitor.say(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            let mut frame = [0; 9];
            let read = timeout(DEADLINE, visitor.stream.read_exact(&mut frame));
            read.await.expect("in time").expect("a frame");
            assert_eq!(frame[3], 4, "cut at {cut}: {frame:?}");
        }
    };
    LocalSet::new().run_until(scene).await;
}
