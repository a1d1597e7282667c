//! Backends whose answers are not as they should be: what a client gets of them, and that nobody else gets the rest.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::town::{Backend, DEADLINE, Town};
use crate::plane::limits;

/// What a backend says to `/NUMBER`, and what becomes of it.
struct Case {
    what: &'static str,
    method: &'static str,
    answer: Vec<u8>,
    closes: bool,
    /// The status, and the body or `None` when the client must see that it broke off.
    expected: (u16, Option<&'static str>),
}

fn case(what: &'static str, answer: &[u8], expected: (u16, Option<&'static str>)) -> Case {
    Case { what, method: "GET", answer: answer.to_vec(), closes: true, expected }
}

fn cases() -> Vec<Case> {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(2 * limits::HEAD_BYTES));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(limits::HEADERS));
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let poisoned = |head: &str| [head.as_bytes(), poison].concat();
    let mut cases = vec![
        case("plain", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", (200, Some("ok"))),
        case("no length", b"HTTP/1.1 200 OK\r\n\r\nto the end", (200, Some("to the end"))),
        case("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", (502, Some(""))),
        case("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na", (502, Some(""))),
        case("less than the length", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", (200, None)),
        case(
            "an end before the last chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            (200, None),
        ),
        case(
            "a broken chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            (200, None),
        ),
        case("nothing", b"", (502, Some(""))),
        case("half a head", b"HTTP/1.1 200 OK\r\ncontent-le", (502, Some(""))),
        case("another protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", (502, Some(""))),
        case(
            "a CR in a value",
            b"HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n",
            (502, Some("")),
        ),
        case("a NUL in a value", b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n", (502, Some(""))),
        case("a status that is none", b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", (502, Some(""))),
        case("a head too large", long.as_bytes(), (502, Some(""))),
        case("too many headers", many.as_bytes(), (502, Some(""))),
        case(
            "another protocol than asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            (502, Some("")),
        ),
        case(
            "early hints",
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            (200, Some("ok")),
        ),
        // Bodies where none may be, and answers that nobody asked for: they stay open, for the next request to fall into.
        case("a body of 204", &poisoned("HTTP/1.1 204 No Content\r\n\r\n"), (204, Some(""))),
        case("a body of 304", &poisoned("HTTP/1.1 304 Not Modified\r\ncontent-length: 47\r\n\r\n"), (304, Some(""))),
        case("two answers", &poisoned("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), (200, Some("ok"))),
        case(
            "two answers, chunked",
            &poisoned("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            (200, Some("ok")),
        ),
        case(
            "a length and chunks",
            &poisoned("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            (200, Some("ok")),
        ),
    ];
    let open = cases.iter().position(|case| case.what == "a body of 204").expect("it is there");
    cases[open..].iter_mut().for_each(|case| case.closes = false);
    let answer = poisoned("HTTP/1.1 200 OK\r\ncontent-length: 47\r\n\r\n");
    cases.push(Case { what: "a body of HEAD", method: "HEAD", answer, closes: false, expected: (200, Some("")) });
    cases
}

/// Answers each request as its path says.
async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let cases = cases();
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                while !bytes.ends_with(b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                        return;
                    }
                }
                let path = String::from_utf8_lossy(&bytes).split(' ').nth(1).and_then(|path| path[1..].parse().ok());
                let case: &Case = &cases[path.unwrap_or(0_usize)];
                // The gateway may have refused half of it.
                if stream.write_all(&case.answer).await.is_err() || case.closes {
                    return;
                }
            }
        });
    }
}

/// Everything to the end of the connection.
async fn exchange(town: &Town, method: &str, path: usize) -> String {
    let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let request = format!("{method} /{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut bytes = Vec::new();
    // What broke off may end by a reset.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The body, if it is whole.
fn body<'a>(method: &str, status: u16, answer: &'a str) -> Option<&'a str> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    if method == "HEAD" || status == 204 || status == 304 {
        return Some(body);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => (body.len() == length.parse::<usize>().expect("a length")).then_some(body),
        None if head.contains("transfer-encoding: chunked") => {
            let (data, end) = body.split_once("\r\n0\r\n\r\n")?;
            assert!(end.is_empty(), "{end}");
            data.split_once("\r\n").map(|(_, data)| data)
        }
        None => Some(body),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_answer_is_told_as_one_and_nobody_gets_anothers() {
    let mut town = Town::new(1);
    let mut backend = Backend::start("raw").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let server = tokio::spawn(serve(listener));
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut wrong = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let answer = exchange(&town, case.method, number).await;
        let (status, expected) = case.expected;
        let found = body(case.method, status, &answer);
        let same =
            if status == 502 { answer.contains("x-sluice-reason: backend-closed\r\n") } else { found == expected };
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) || !same {
            wrong.push(format!("{}: {answer:?}", case.what));
        }
        let next = exchange(&town, "GET", 0).await;
        if !next.ends_with("\r\n\r\nok") {
            wrong.push(format!("after {}: {next:?}", case.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_only_ever_promises_an_answer_holds_up_nobody() {
    let timeouts = json!({"backendRequest": "300ms"});
    let mut town = Town::with_rules(
        1,
        json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": "/flood"}}], "timeouts": timeouts,
                "backendRefs": [{"name": "flood", "port": 80}]},
            {"backendRefs": [{"name": "shop", "port": 80}]},
        ]),
    );
    let (mut flooding, well) = (Backend::start("flood").await, Backend::start("well").await);
    let listener = TcpListener::bind((flooding.address.ip(), 0)).await.expect("a free port");
    flooding.address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // Before it is asked anything it may not speak at all.
        assert!(stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0));
        let promises = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
        // Until the gateway has had enough.
        while stream.write_all(&promises).await.is_ok() {}
    });
    town.service("flood");
    town.add("flood", &flooding, "v2");
    town.add("shop", &well, "v1");
    town.publish().await;
    let mut waiting = town.client().await;
    let flooded = tokio::spawn(async move { waiting.get("/flood").await.0 });
    let mut other = town.client().await;
    while !flooded.is_finished() {
        assert_eq!(other.get("/").await, (200, "well".into()));
    }
    assert_eq!(flooded.await.expect("an answer"), 504);
    timeout(DEADLINE, server).await.expect("the backend is let go").expect("it ran");
}
