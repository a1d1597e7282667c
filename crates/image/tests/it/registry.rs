//! A registry that serves a few images, and does to requests what the test says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sluice_image::{Digest, Platform};
use tokio::net::TcpListener;

pub(crate) type Answer = Response<BoxBody<Bytes, std::io::Error>>;
/// Looks at a request before the registry does; `None` lets it through.
pub(crate) type Hook = Box<dyn Fn(&Request<Incoming>, &Contents) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
}

pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
    log: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Registry {
    pub(crate) async fn start(hook: Hook) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let contents = Arc::new(Mutex::new(Contents::default()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (hook, serves, logs) = (Arc::new(hook), contents.clone(), log.clone());
        let serving = tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let (hook, contents, log) = (hook.clone(), serves.clone(), logs.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let answer = {
                        let contents = contents.lock().expect("whole");
                        let range =
                            request.headers().get(header::RANGE).map(|r| format!(" {}", r.to_str().expect("text")));
                        let who = request.headers().contains_key(header::AUTHORIZATION);
                        let line = format!(
                            "{}{}{}",
                            request.uri(),
                            range.unwrap_or_default(),
                            if who { " as someone" } else { "" }
                        );
                        log.lock().expect("whole").push(line);
                        hook(&request, &contents).unwrap_or_else(|| contents.serve(&request))
                    };
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(async move {
                    // A connection that breaks is part of the test.
                    let _broken = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { address, contents, log, serving }
    }

    /// What was asked so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("whole").clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.lock().expect("whole"));
    }

    /// The image `app:1` in a repository of this registry, of two layers.
    pub(crate) fn name(&self) -> String {
        format!("{}/team/app:1", self.address)
    }
}

impl Contents {
    pub(crate) fn put_image(&mut self, tag: &str, layers: &[Vec<u8>]) -> Value {
        let host = Platform::host();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({"os": host.os, "architecture": host.architecture, "config": {"Entrypoint": ["/app"]}, "rootfs": {"diff_ids": diff_ids}});
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.put_blob(&gzip(layer), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let config = self.put_blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        self.put_manifest(
            tag,
            "application/vnd.oci.image.manifest.v1+json",
            &json!({"schemaVersion": 2, "config": config, "layers": layers}),
        )
    }

    pub(crate) fn put_blob(&mut self, bytes: &[u8], kind: &str) -> Value {
        self.blobs.insert(Digest::of(bytes).to_string(), bytes.to_vec());
        json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
    }

    pub(crate) fn put_manifest(&mut self, tag: &str, kind: &str, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for name in [tag, &digest.to_string()] {
            self.manifests.insert(name.to_owned(), (kind.to_owned(), bytes.clone()));
        }
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    pub(crate) fn serve(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let name = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/manifests/") {
            return match self.manifests.get(name) {
                Some((kind, bytes)) => answer(StatusCode::OK, &[("content-type", kind)], bytes),
                None => answer(
                    StatusCode::NOT_FOUND,
                    &[],
                    br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            };
        }
        let Some(bytes) = self.blobs.get(name) else { return answer(StatusCode::NOT_FOUND, &[], b"") };
        let range = request
            .headers()
            .get(header::RANGE)
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match range {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                answer(StatusCode::PARTIAL_CONTENT, &[("content-range", &range)], &bytes[start..])
            }
            None => answer(StatusCode::OK, &[], bytes),
        }
    }
}

pub(crate) fn answer(status: StatusCode, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = http_body_util::Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {});
    response.body(body.boxed()).expect("an answer")
}

/// An answer that promises all of a body and sends its beginning.
pub(crate) fn cut(status: StatusCode, headers: &[(&str, &str)], body: &[u8], after: usize) -> Answer {
    let mut response = Response::builder().status(status).header("content-length", body.len());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let beginning = Frame::data(Bytes::copy_from_slice(&body[..after]));
    // What was sent must be on its way before the connection breaks: the error would take it along.
    let broken = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    };
    let stream = futures::stream::iter([Ok(beginning)]).chain(futures::stream::once(broken));
    response.body(BodyExt::boxed(StreamBody::new(stream))).expect("an answer")
}

/// An answer that promises all of a body, sends its beginning, and then a few bytes at a time, or nothing any more.
pub(crate) fn slow(
    status: StatusCode,
    headers: &[(&str, &str)],
    body: &[u8],
    after: usize,
    pace: Option<Pace>,
) -> Answer {
    let mut response = Response::builder().status(status).header("content-length", body.len());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let beginning = Frame::data(Bytes::copy_from_slice(&body[..after]));
    let rest = Bytes::copy_from_slice(&body[after..]);
    let rest = futures::stream::unfold(rest, move |mut rest| async move {
        let Some((every, bytes)) = pace else { return std::future::pending().await };
        tokio::time::sleep(every).await;
        let piece = rest.split_to(bytes.min(rest.len()));
        (!piece.is_empty()).then(|| (Ok(Frame::data(piece)), rest))
    });
    let stream = futures::stream::iter([Ok(beginning)]).chain(rest);
    response.body(BodyExt::boxed(StreamBody::new(stream))).expect("an answer")
}

/// How often how many bytes come.
pub(crate) type Pace = (std::time::Duration, usize);

/// An answer without an end.
pub(crate) fn endless() -> Answer {
    let stream = futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b' '; 64 << 10]))));
    Response::new(BodyExt::boxed(StreamBody::new(stream)))
}

/// An answer without a length that ends where it says it ends.
pub(crate) fn chunked(body: &[u8]) -> Answer {
    let frame = Frame::data(Bytes::copy_from_slice(body));
    Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter([Ok(frame)]))))
}

/// An answer whose body comes once as many wait for theirs as the barrier says.
pub(crate) fn after(barrier: Arc<tokio::sync::Barrier>, body: &[u8]) -> Answer {
    let body = Bytes::copy_from_slice(body);
    let waiting = async move {
        barrier.wait().await;
        Ok(Frame::data(body))
    };
    Response::new(BodyExt::boxed(StreamBody::new(futures::stream::once(waiting))))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

/// A layer with one file whose bytes do not compress.
pub(crate) fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut state = name.len() as u64 + 1;
    let text: Vec<u8> = (0..size)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        })
        .collect();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    // Whoever runs the test can always give files to themselves.
    header
        .set_uid(u64::from(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("a process"))));
    header
        .set_gid(u64::from(std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self").expect("a process"))));
    builder.append_data(&mut header, name, &text[..]).expect("written");
    builder.into_inner().expect("an archive")
}
