//! Registries that hang, dawdle or never end: each costs a bounded time, and nobody else waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use sluice_image::{Hosts, Image, Patience, Pull, Reference, Registry as Client, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::registry::{Answer, Contents, Hook, Registry, answer, endless, layer, slow};

const IMPATIENT: Patience = Patience {
    connect: Duration::from_secs(10),
    idle: Duration::from_millis(900),
    idle_bytes: 1 << 10,
    document: Duration::from_secs(2),
    pause: Duration::from_millis(10),
};

struct World {
    registry: Registry,
    _directory: tempfile::TempDir,
    store: Store,
}

impl World {
    async fn new(hook: impl Fn(&Request<Incoming>, &Contents) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let registry = Registry::start(Box::new(hook) as Hook).await;
        registry.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000)])));
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("images")).expect("a store");
        Self { registry, _directory: directory, store }
    }

    async fn pull(&self) -> Result<Image, String> {
        self.pull_from(&self.registry.name(), Hosts::default()).await
    }

    async fn pull_from(&self, name: &str, hosts: Hosts) -> Result<Image, String> {
        let reference: Reference = name.parse().expect("a name");
        let result = Pull::new(reference).run(&self.store, &Client::with_patience(hosts, IMPATIENT)).await;
        result.map_err(|error| error.to_string())
    }

    async fn refused(&self, expected: &str) -> String {
        let error = self.pull().await.expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(self.store.root().join("tmp")).expect("readable").count(), 0);
        error
    }
}

fn large_blob(request: &Request<Incoming>, contents: &Contents) -> Option<(Vec<u8>, usize)> {
    let name = request.uri().path().rsplit('/').next()?;
    let bytes = contents.blobs.get(name).filter(|bytes| bytes.len() > 100_000)?.clone();
    let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    Some((bytes, start.unwrap_or(0)))
}

/// The rest of a blob, of which `after` bytes come at once.
fn part(bytes: &[u8], start: usize, after: usize, pace: Option<(Duration, usize)>) -> Answer {
    let rest = &bytes[start..];
    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    slow(StatusCode::PARTIAL_CONTENT, &[("content-range", &range)], rest, after.min(rest.len()), pace)
}

/// Something that accepts connections and does the same to each.
async fn listener(says: &'static [u8], again: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let asked = socket.read(&mut [0; 1024]).await;
                let mut result = asked.and(socket.write_all(says).await);
                while result.is_ok() && !again.is_empty() {
                    result = socket.write_all(again).await;
                }
                // Held open for ever.
                std::future::pending::<()>().await;
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_registry_that_accepts_and_never_answers_is_given_up() {
    let world = World::new(|_, _| None).await;
    let (address, connections) = listener(b"", b"").await;
    let error = world.pull_from(&format!("{address}/team/app:1"), Hosts::default()).await.expect_err("silent");
    assert_eq!(error, format!("{address} sent no answer within 900 milliseconds"));
    assert_eq!(connections.load(Ordering::SeqCst), 2, "asked twice");
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let world = World::new(|_, _| None).await;
    let (address, _) =
        listener(b"HTTP/1.1 200 OK\r\n", b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
            .await;
    let error = world.pull_from(&format!("{address}/team/app:1"), Hosts::default()).await.expect_err("endless");
    assert!(error.contains("message head is too large"), "{error}");
}

#[tokio::test]
async fn a_manifest_without_an_end_is_given_up() {
    World::new(|_, _| Some(endless())).await.refused("sent a manifest of more than 4194304 bytes").await;
    let world = World::new(|_, _| {
        Some(slow(StatusCode::OK, &[], &[b' '; 100_000], 0, Some((Duration::from_millis(100), 2000))))
    });
    world.await.refused("sent no manifest within 2 seconds").await;
}

#[tokio::test]
async fn a_token_server_that_hangs_is_given_up() {
    let (address, _) = listener(b"", b"").await;
    let challenge = format!(r#"Bearer realm="http://{address}/token",service="test""#);
    let world =
        World::new(move |_, _| Some(answer(StatusCode::UNAUTHORIZED, &[("www-authenticate", &challenge)], b"")));
    world.await.refused("sent no answer within 900 milliseconds").await;
}

#[tokio::test]
async fn redirects_in_circles_are_given_up() {
    let world = World::new(|request, _| {
        let path = request.uri().path().to_owned();
        Some(answer(StatusCode::FOUND, &[("location", &path)], b""))
    });
    world.await.refused("redirects too often: more than 5 times").await;
}

#[tokio::test]
async fn a_download_that_stands_still_goes_on_by_a_range() {
    let count = AtomicUsize::new(0);
    let world = World::new(move |request, contents| {
        let (bytes, start) = large_blob(request, contents)?;
        // Each comes on by enough to be worth another try, so that any number of them may stand still.
        (count.fetch_add(1, Ordering::SeqCst) < 4).then(|| part(&bytes, start, 70_000, None))
    })
    .await;
    world.pull().await.expect("pulled");
    let ranges = world.registry.log().iter().filter(|line| line.contains(" bytes=")).count();
    assert_eq!(ranges, 4, "{:?}", world.registry.log());
}

#[tokio::test]
async fn a_download_that_stands_still_for_ever_is_given_up() {
    let world = World::new(|request, contents| {
        let (bytes, start) = large_blob(request, contents)?;
        Some(part(&bytes, start, if start == 0 { 70_000 } else { 0 }, None))
    })
    .await;
    let error = world.refused("then 3 times too little within 900 milliseconds").await;
    assert!(error.contains("stopped in the middle of sha256:") && error.contains(": 70000 of 3"), "{error}");
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_progress() {
    let world = World::new(|request, contents| {
        let (bytes, start) = large_blob(request, contents)?;
        Some(part(&bytes, start, 0, Some((Duration::from_millis(50), 1))))
    })
    .await;
    world.refused("then 3 times too little within 900 milliseconds").await;
}

#[tokio::test]
async fn a_slow_download_that_comes_on_is_waited_for() {
    let world = World::new(|request, contents| {
        let (bytes, start) = large_blob(request, contents)?;
        Some(part(&bytes, start, 0, Some((Duration::from_millis(50), 10_000))))
    })
    .await;
    world.pull().await.expect("slow, and longer than any one time-out");
}

#[tokio::test]
async fn nobody_waits_for_ever_for_somebody_elses_layer() {
    let asked = Arc::new(tokio::sync::Notify::new());
    let asks = asked.clone();
    let hanging = Registry::start(Box::new(move |request, contents| {
        let (bytes, start) = large_blob(request, contents)?;
        asks.notify_one();
        // It comes on, so it may take as long as it likes.
        Some(part(&bytes, start, 0, Some((Duration::from_millis(100), 2_000))))
    }))
    .await;
    hanging.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000)])));
    let world = Arc::new(World::new(|_, _| None).await);
    let first = tokio::spawn({
        let (world, name) = (world.clone(), hanging.name());
        async move { world.pull_from(&name, Hosts::default()).await.map(drop) }
    });
    asked.notified().await;
    world.pull().await.expect("the same layer from another registry");
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test]
async fn a_mirror_that_hangs_is_asked_once_and_then_the_registry() {
    let (silent, connections) = listener(b"", b"").await;
    let world = World::new(|_, _| None).await;
    let mut hosts = Hosts::default();
    hosts
        .mirrors
        .insert("docker.io".to_owned(), vec![format!("http://{silent}"), format!("http://{}", world.registry.address)]);
    world.pull_from("team/app:1", hosts).await.expect("pulled");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_mirror_without_the_layers_is_left_for_the_registry() {
    let partial = Registry::start(Box::new(|request, _| {
        request.uri().path().contains("/blobs/").then(|| answer(StatusCode::NOT_FOUND, &[], b""))
    }))
    .await;
    let lying = Registry::start(Box::new(|request, contents| {
        let (mut bytes, _) = large_blob(request, contents)?;
        bytes[1000] ^= 1;
        Some(answer(StatusCode::OK, &[], &bytes))
    }))
    .await;
    let world = World::new(|_, _| None).await;
    for mirror in [&partial, &lying] {
        mirror.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000)])));
    }
    let mut hosts = Hosts::default();
    let mirrors = [&partial, &lying, &world.registry].map(|mirror| format!("http://{}", mirror.address));
    hosts.mirrors.insert("docker.io".to_owned(), mirrors.to_vec());
    world.pull_from("team/app:1", hosts).await.expect("pulled");
    assert_eq!(world.registry.log().len(), 2, "{:?}: the configuration is here already", world.registry.log());
}
