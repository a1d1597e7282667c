//! What comes of a pull, and what the registry was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;
use sluice_image::{
    Credential, Digest, Hosts, Image, Keyring, Platform, Pull, PullError, Reference, Registry as Client, Store,
};

use crate::registry::{Answer, Contents, Hook, Registry, after, answer, cut, layer};

struct World {
    registry: Registry,
    directory: tempfile::TempDir,
    store: Store,
    client: Client,
}

impl World {
    async fn new(hook: impl Fn(&Request<Incoming>, &Contents) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let registry = Registry::start(Box::new(hook) as Hook).await;
        registry.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000), layer("b", 10)])));
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("images")).expect("a store");
        Self { registry, directory, store, client: Client::new(Hosts::default()) }
    }

    fn reference(&self) -> Reference {
        self.registry.name().parse().expect("a name")
    }

    async fn pull(&self) -> Result<Image, String> {
        self.pull_as(Pull::new(self.reference())).await
    }

    async fn pull_as(&self, pull: Pull) -> Result<Image, String> {
        let result = pull.run(&self.store, &self.client).await.map_err(|error| chain(&error));
        if let Ok(image) = &result {
            assert_eq!(std::fs::metadata(image.layers[0].join("a")).expect("unpacked").len(), 300_000);
        }
        let left = std::fs::read_dir(self.directory.path().join("images/tmp")).expect("readable").count();
        assert_eq!(left, 0, "nothing unfinished is left");
        result
    }

    fn refused(&self, result: Result<Image, String>, expected: &str) {
        let error = result.expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert_eq!(self.store.list().expect("listed"), []);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    format!("{error}{cause}")
}

fn is_blob(request: &Request<Incoming>) -> bool {
    request.uri().path().contains("/blobs/")
}

fn large_blob(request: &Request<Incoming>, contents: &Contents) -> Option<Vec<u8>> {
    let name = request.uri().path().rsplit('/').next()?;
    contents.blobs.get(name).filter(|bytes| bytes.len() > 100_000).cloned()
}

#[tokio::test]
async fn an_image_comes_once() {
    let world = World::new(|_, _| None).await;
    let image = world.pull().await.expect("pulled");
    assert_eq!(image.config.config.entrypoint, ["/app"]);
    assert_eq!(image.record.names.iter().next(), Some(&world.registry.name()));
    let status = image.status_id(&world.reference());
    assert!(status.starts_with(&format!("{}/team/app@sha256:", world.registry.address)), "{status}");
    let asked = world.registry.log().len();
    assert_eq!(asked, 4, "manifest, configuration, two layers");
    world.pull().await.expect("pulled again");
    assert_eq!(world.registry.log().len(), asked + 1, "the manifest alone");
    let by_digest: Reference = status.parse().expect("a reference");
    assert_eq!(world.store.get(&by_digest).expect("answered").expect("here").id(), image.id());
}

#[tokio::test]
async fn pulls_at_the_same_time_share_their_downloads() {
    let world = Arc::new(World::new(|_, _| None).await);
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { Pull::new(world.reference()).run(&world.store, &world.client).await.map(drop) })
        })
        .collect();
    for pull in pulls {
        pull.await.expect("no panic").expect("pulled");
    }
    let layers = world.registry.log().iter().filter(|line| line.contains("/blobs/")).count();
    assert!(layers <= 2 + 4, "each layer once, whoever wants the configuration: {:?}", world.registry.log());
}

#[tokio::test]
async fn layers_of_one_image_come_at_the_same_time() {
    // Nobody gets a layer before both were asked for.
    let both = Arc::new(tokio::sync::Barrier::new(2));
    let world = World::new(move |request, contents| {
        let config = b"Entrypoint";
        let name = request.uri().path().rsplit('/').next()?;
        let bytes = contents.blobs.get(name).filter(|b| !b.windows(config.len()).any(|w| w == config))?;
        Some(after(both.clone(), bytes))
    })
    .await;
    let pulled = tokio::time::timeout(std::time::Duration::from_secs(60), world.pull()).await;
    pulled.expect("one layer waits for the other").expect("pulled");
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let count = AtomicUsize::new(0);
    let world = World::new(move |request, contents| {
        let bytes = large_blob(request, contents)?;
        let range = request
            .headers()
            .get(header::RANGE)
            .and_then(|r| r.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match (count.fetch_add(1, Ordering::SeqCst), range) {
            (0, _) => Some(cut(StatusCode::OK, &[], &bytes, 100_000)),
            // Once without ranges: everything comes again.
            (1, _) => Some(cut(StatusCode::OK, &[], &bytes, 150_000)),
            (2, Some(start)) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Some(cut(StatusCode::PARTIAL_CONTENT, &[("content-range", &range)], &bytes[start..], 50_000))
            }
            _ => None,
        }
    })
    .await;
    world.pull().await.expect("pulled");
    let ranges: Vec<String> =
        world.registry.log().into_iter().filter_map(|line| Some(line.split_once(" bytes=")?.1.to_owned())).collect();
    let ranges: Vec<u64> = ranges.iter().map(|range| range.trim_end_matches('-').parse().expect("a number")).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges.is_sorted_by(|a, b| a < b), "{ranges:?}");
}

#[tokio::test]
async fn a_cut_download_comes_again_from_a_registry_that_refuses_ranges() {
    let refusals = [
        answer_with(StatusCode::RANGE_NOT_SATISFIABLE, None),
        // Another part than was asked for.
        answer_with(StatusCode::PARTIAL_CONTENT, Some("bytes 7-299999/300000")),
    ];
    for refusal in refusals {
        let count = AtomicUsize::new(0);
        let world = World::new(move |request, contents| {
            let bytes = large_blob(request, contents)?;
            match (count.fetch_add(1, Ordering::SeqCst), request.headers().contains_key(header::RANGE)) {
                (0, _) => Some(cut(StatusCode::OK, &[], &bytes, 100_000)),
                (_, true) => Some(refusal()),
                (_, false) => None,
            }
        })
        .await;
        world.pull().await.expect("pulled");
        let log = world.registry.log();
        let ranges: Vec<bool> = asked_for_largest(&log).map(|line| line.contains(" bytes=")).collect();
        assert_eq!(ranges, [false, true, false], "{log:?}");
    }
}

fn answer_with(status: StatusCode, range: Option<&'static str>) -> impl Fn() -> Answer {
    move || {
        let headers: Vec<(&str, &str)> = range.map(|range| ("content-range", range)).into_iter().collect();
        answer(status, &headers, b"not this")
    }
}

/// The requests for the blob that was asked for most often.
fn asked_for_largest(log: &[String]) -> impl Iterator<Item = &String> {
    let blob = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let times = |path: &str| log.iter().filter(|line| blob(line) == path).count();
    let largest = log.iter().map(blob).max_by_key(|path| times(path)).unwrap_or_default();
    log.iter().filter(move |line| blob(line) == largest)
}

#[tokio::test]
async fn lies_are_refused_and_leave_nothing() {
    let world = World::new(|request, contents| {
        large_blob(request, contents).map(|mut bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            answer(StatusCode::OK, &[], &bytes)
        })
    })
    .await;
    let result = world.pull().await;
    world.refused(result, "wrong digest: content is not sha256:");
    let world = World::new(|request, contents| {
        large_blob(request, contents).map(|bytes| answer(StatusCode::OK, &[], &[&bytes[..], b"more"].concat()))
    })
    .await;
    let result = world.pull().await;
    world.refused(result, " of its manifest");
    let world = World::new(|_, _| None).await;
    world.registry.change(|contents| {
        let (kind, _) = contents.manifests["1"].clone();
        for (_, bytes) in contents.manifests.values_mut() {
            *bytes = b"{}".to_vec();
        }
        contents.manifests.insert("1".to_owned(), (kind, b"{}".to_vec()));
    });
    let result = world.pull().await;
    world.refused(result, "is no JSON document of an image");
    let mut pull = Pull::new(world.reference().with_digest(&Digest::of(b"other")));
    world.registry.change(|contents| {
        let served = contents.manifests["1"].clone();
        contents.manifests.insert(Digest::of(b"other").to_string(), served);
    });
    pull.platform = Platform::host();
    let result = world.pull_as(pull).await;
    world.refused(result, &format!("is not {}", Digest::of(b"other")));
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let count = AtomicUsize::new(0);
    let world = World::new(move |_, _| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Some(answer(StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "0")], b"")),
        1 => Some(answer(StatusCode::SERVICE_UNAVAILABLE, &[("retry-after", "0")], b"")),
        2 => Some(answer(StatusCode::BAD_GATEWAY, &[], b"")),
        _ => None,
    })
    .await;
    world.pull().await.expect("pulled");
    let world = World::new(|_, _| {
        Some(answer(
            StatusCode::TOO_MANY_REQUESTS,
            &[("retry-after", "3600")],
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back later"}]}"#,
        ))
    })
    .await;
    let result = world.pull().await;
    world.refused(result, "answered 429 Too Many Requests: come back later");
    assert_eq!(world.registry.log().len(), 1, "an hour is not waited for");
    let world = World::new(|_, _| Some(answer(StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "0")], b""))).await;
    let result = world.pull().await;
    world.refused(result, "answered 429");
    assert_eq!(world.registry.log().len(), 5, "not for ever");
}

#[tokio::test]
async fn a_registry_is_asked_again_when_it_says() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let asks = asked.clone();
    let world = World::new(move |_, _| {
        let mut asks = asks.lock().expect("whole");
        asks.push(std::time::Instant::now());
        (asks.len() == 1).then(|| answer(StatusCode::TOO_MANY_REQUESTS, &[("retry-after", "2")], b""))
    })
    .await;
    world.pull().await.expect("pulled");
    let asked = asked.lock().expect("whole");
    let waited = asked[1].duration_since(asked[0]);
    // Without the header it would have been a tenth of that.
    assert!(waited >= std::time::Duration::from_secs(2), "{waited:?}");
}

/// `Bearer`: only the token of `user:pass` opens the registry.
fn token_dance(request: &Request<Incoming>, _: &Contents) -> Option<Answer> {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).expect("a host");
    if request.uri().path() == "/token" {
        let query = request.uri().query().unwrap_or_default();
        assert!(query.contains("service=test") && query.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{query}");
        return Some(match authorization {
            Some("Basic dXNlcjpwYXNz") => answer(StatusCode::OK, &[], br#"{"token":"sesame","expires_in":300}"#),
            Some(_) => answer(StatusCode::UNAUTHORIZED, &[], b""),
            None => answer(StatusCode::OK, &[], br#"{"access_token":"nobody"}"#),
        });
    }
    match authorization {
        Some("Bearer sesame") => None,
        Some("Bearer nobody") => {
            Some(answer(StatusCode::FORBIDDEN, &[], br#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#))
        }
        _ => {
            let challenge =
                format!(r#"Bearer realm="http://{host}/token",service="test",scope="repository:team/app:pull""#);
            Some(answer(StatusCode::UNAUTHORIZED, &[("www-authenticate", &challenge)], b""))
        }
    }
}

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn tokens_are_fetched_once_and_kept() {
    let world = World::new(token_dance).await;
    let result = world.pull().await;
    world.refused(result, "access denied by 127.0.0.1:");
    let pull =
        Pull { credentials: vec![password("user", "wrong"), password("user", "pass")], ..Pull::new(world.reference()) };
    world.pull_as(pull).await.expect("the second credential opens");
    let tokens = world.registry.log().iter().filter(|line| line.starts_with("/token")).count();
    assert_eq!(tokens, 3, "one for nobody, one refused, one that lasts");
    let pull = Pull { credentials: vec![password("user", "wrong")], ..Pull::new(world.reference()) };
    let error = world.pull_as(pull).await.expect_err("refused");
    assert!(error.contains("access denied") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_docker_configuration_opens_a_registry_with_a_password() {
    let world = World::new(|request, _| {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        (authorization != Some("Basic dXNlcjpwYXNz"))
            .then(|| answer(StatusCode::UNAUTHORIZED, &[("www-authenticate", r#"Basic realm="x""#)], b""))
    })
    .await;
    let result = world.pull().await;
    world.refused(result, "wants a user name and a password");
    let secret = json!({"auths": {(world.registry.address.to_string()): {"auth": "dXNlcjpwYXNz"}}});
    let keyring = Keyring::of_secret(secret.to_string().as_bytes()).expect("a secret");
    let credentials = keyring.credentials(&world.reference()).await;
    world.pull_as(Pull { credentials, ..Pull::new(world.reference()) }).await.expect("pulled");
}

#[tokio::test]
async fn another_host_does_not_learn_who_we_are() {
    let other = Registry::start(Box::new(|_, _| None)).await;
    other.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000), layer("b", 10)])));
    let to = format!("http://{}", other.address);
    let world = World::new(move |request, contents| {
        if let Some(refused) = token_dance(request, contents) {
            return Some(refused);
        }
        is_blob(request).then(|| {
            let location = format!("{to}{}", request.uri().path());
            answer(StatusCode::TEMPORARY_REDIRECT, &[("location", &location)], b"")
        })
    })
    .await;
    let pull = Pull { credentials: vec![password("user", "pass")], ..Pull::new(world.reference()) };
    world.pull_as(pull).await.expect("pulled");
    assert_eq!(other.log().len(), 3);
    assert!(other.log().iter().all(|line| !line.contains("as someone")), "{:?}", other.log());
    let world = World::new(|request, _| {
        let path = request.uri().path().to_owned();
        is_blob(request).then(|| answer(StatusCode::FOUND, &[("location", &path)], b""))
    })
    .await;
    let result = world.pull().await;
    world.refused(result, "redirects too often");
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_after_it() {
    let world = World::new(|_, _| None).await;
    let mut hosts = Hosts::default();
    let empty = Registry::start(Box::new(|_, _| None)).await;
    hosts.mirrors.insert(
        "docker.io".to_owned(),
        [&empty, &world.registry].map(|mirror| format!("http://{}", mirror.address)).to_vec(),
    );
    let reference: Reference = "team/app:1".parse().expect("a name");
    let image = Pull::new(reference).run(&world.store, &Client::new(hosts)).await.expect("pulled");
    assert_eq!(image.record.names.iter().next().map(String::as_str), Some("docker.io/team/app:1"));
    assert_eq!(empty.log(), ["/v2/team/app/manifests/1"]);
}

#[tokio::test]
async fn an_index_gives_the_image_of_this_machine() {
    let world = World::new(|_, _| None).await;
    let host = Platform::host();
    world.registry.change(|contents| {
        let mut ours = contents.put_image("ours", &[layer("a", 300_000)]);
        let mut theirs = contents.put_image("theirs", &[layer("a", 7)]);
        ours["platform"] = json!({"os": host.os, "architecture": host.architecture});
        theirs["platform"] = json!({"os": "plan9", "architecture": "mips"});
        contents.put_manifest(
            "1",
            "application/vnd.oci.image.index.v1+json",
            &json!({"schemaVersion": 2, "manifests": [theirs, ours]}),
        );
    });
    let image = world.pull().await.expect("pulled");
    assert_eq!(image.record.digests.len(), 2, "it answers to the digest of the index and of its manifest");
    let pull = Pull { platform: "linux/s390x".parse().expect("a platform"), ..Pull::new(world.reference()) };
    let error = pull.run(&world.store, &world.client).await.expect_err("none").to_string();
    assert!(error.contains("has no image for linux/s390x, only for plan9/mips"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let world = World::new(|_, _| None).await;
    let reference: Reference = format!("{}/team/app:2", world.registry.address).parse().expect("a name");
    let error = Pull::new(reference).run(&world.store, &world.client).await.expect_err("unknown");
    assert_eq!(error.to_string(), format!("{}/team/app:2: not found", world.registry.address));
    assert!(matches!(error, PullError::Registry(_)));
}
