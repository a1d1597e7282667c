//! Bytes of a client against the reader that frames them and against hyper: whatever the first lets through, the second must take for
//! the same requests, and nothing may depend on the pieces in which the bytes come.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;

use plane::framing::{Fault, Framing, Step};
use plane::limits;

#[path = "../../../crates/gateway/src/plane"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod plane {
    pub(crate) mod framing;
    pub(crate) mod limits;
}

#[derive(Debug, PartialEq)]
struct Framed {
    passed: Vec<u8>,
    /// Their request lines.
    requests: Vec<String>,
    fault: Option<Fault>,
}

fn framed(bytes: &[u8], size: usize) -> Framed {
    let (mut framing, mut held) = (Framing::default(), Vec::new());
    let mut framed = Framed { passed: Vec::new(), requests: Vec::new(), fault: None };
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        while !held.is_empty() {
            let in_head = !framing.is_in_body();
            match framing.step(&held) {
                Step::Pass(count) => {
                    assert!(count > 0 && count <= held.len());
                    if in_head {
                        let line = held.split(|byte| *byte == b'\r').next().unwrap_or_default();
                        framed.requests.push(String::from_utf8_lossy(line).into_owned());
                    }
                    framed.passed.extend(held.drain(..count));
                }
                Step::Skip(count) => drop(held.drain(..count)),
                Step::More => break,
                // As after an answer that declines it.
                Step::Undecided => framing.go_on(),
                Step::Refuse(fault) => {
                    framed.fault = Some(fault);
                    return framed;
                }
            }
        }
    }
    framed
}

/// What hyper makes of these bytes, and whether it complains of them.
fn served(bytes: &[u8]) -> (Vec<String>, bool) {
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let all = seen.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let all = all.clone();
        async move {
            let (head, body) = request.into_parts();
            let line = format!("{} {}", head.method, head.uri);
            all.borrow_mut().push(line);
            let _ = body.collect().await;
            let mut answer = Response::new(Full::new(Bytes::new()));
            if head.method == http::Method::CONNECT {
                *answer.status_mut() = StatusCode::NOT_IMPLEMENTED;
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let complains = runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.expect("room for it");
        client.shutdown().await.expect("open");
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .max_headers(limits::HEADERS)
            .max_buf_size(limits::HEAD_BYTES)
            .serve_connection(TokioIo::new(server), service);
        let ended = connection.await;
        drop(client);
        // What is cut off by the end of the input is no complaint.
        ended.is_err_and(|error| error.is_parse())
    });
    (seen.take(), complains)
}

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = framed(bytes, usize::MAX);
    let pieces = framed(bytes, usize::from(*size).max(1));
    assert_eq!((&whole.requests, whole.fault), (&pieces.requests, pieces.fault), "pieces change something");
    if whole.passed.is_empty() {
        return;
    }
    let (requests, complains) = served(&whole.passed);
    assert!(!complains, "hyper refuses what passed: {:?}", whole.passed.escape_ascii().to_string());
    assert!(requests.len() <= whole.requests.len(), "hyper found more requests: {requests:?} in {:?}", whole.requests);
    for (theirs, ours) in requests.iter().zip(&whole.requests) {
        let ours = ours.rsplit_once(' ').map_or("", |(line, _)| line);
        // hyper gives an absolute target without a path a slash.
        assert!(ours == theirs || format!("{ours}/") == *theirs || ours.contains("?") || ours.contains("://"), "{theirs} for {ours}");
    }
});
