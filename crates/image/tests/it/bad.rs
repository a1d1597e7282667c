//! Images that lie, escape or burst: each is refused in words, and nothing of it stays in the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sluice_image::{Credential, Digest, Hosts, Limits, Patience, Platform, Pull, Reference, Registry as Client, Store};

use crate::registry::{Contents, Hook, Registry, answer, chunked, cut, gzip, layer};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Pulls from a registry with these contents: how many layers came, or why none.
async fn pull(contents: impl FnOnce(&mut Contents), limits: Limits) -> Result<usize, String> {
    pull_through(contents, Box::new(|_, _| None), limits).await
}

async fn pull_through(contents: impl FnOnce(&mut Contents), hook: Hook, limits: Limits) -> Result<usize, String> {
    let registry = Registry::start(hook).await;
    registry.change(contents);
    let directory = tempfile::tempdir().expect("a directory");
    let outside = directory.path().join("outside");
    std::fs::write(&outside, "untouched").expect("written");
    let store = Store::with_limits(directory.path().join("images"), limits).expect("a store");
    let reference: Reference = registry.name().parse().expect("a name");
    let result = Pull::new(reference).run(&store, &Client::new(Hosts::default())).await;
    assert_eq!(std::fs::read_to_string(outside).expect("there"), "untouched");
    let result = result.map(|image| image.layers.len()).map_err(|error| chain(&error));
    if result.is_err() {
        assert_eq!(left(&directory.path().join("images")), Vec::<PathBuf>::new(), "{result:?}");
    }
    result
}

/// Everything in a store that is neither its directories nor their locks.
fn left(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).expect("readable") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(left(&path)),
            false if path.extension().is_some_and(|end| end == "lock") => {}
            false => found.push(path),
        }
    }
    found
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    format!("{error}{cause}")
}

async fn refused(contents: impl FnOnce(&mut Contents), expected: &str) {
    let limits = Limits { layer_entries: 100, ratio: 20, ratio_free_bytes: 1 << 20, ..Limits::default() };
    let error = pull(contents, limits).await.expect_err(expected);
    assert!(error.contains(expected), "{error}");
}

/// An archive with one entry whose name nobody checked.
fn entry(path: &str, kind: u8, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// An image of one plain layer, with its documents bent.
fn put(contents: &mut Contents, layer: &[u8], bend: impl FnOnce(&mut Value, &mut Value)) {
    let host = Platform::host();
    let mut config =
        json!({"os": host.os, "architecture": host.architecture, "rootfs": {"diff_ids": [Digest::of(layer)]}});
    let packed = contents.put_blob(layer, OCI_LAYER);
    let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [packed]});
    bend(&mut manifest, &mut config);
    let described = contents.put_blob(config.to_string().as_bytes(), OCI_CONFIG);
    if manifest["config"].is_null() {
        manifest["config"] = described;
    }
    contents.put_manifest("1", OCI_MANIFEST, &manifest);
}

#[tokio::test]
async fn layers_that_lead_out_are_refused() {
    refused(|c| put(c, &entry("../outside", b'0', ""), |_, _| ()), "entry `../outside` leads out of the image").await;
    refused(|c| put(c, &entry("a/../../outside", b'0', ""), |_, _| ()), "leads out of the image").await;
    refused(|c| put(c, &entry("a", b'1', "../../outside"), |_, _| ()), "leads out of the image").await;
    refused(|c| put(c, &entry("a", b'1', "nowhere"), |_, _| ()), "hard link to `nowhere`, which is not in the image")
        .await;
    refused(|c| put(c, &entry("../.wh.outside", b'0', ""), |_, _| ()), "leads out of the image").await;
}

#[tokio::test]
async fn bombs_end_at_their_bounds() {
    let zeros = |c: &mut Contents| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(8 << 20);
        builder.append_data(&mut header, "zeros", &vec![0; 8 << 20][..]).expect("written");
        let bomb = builder.into_inner().expect("an archive");
        let packed = c.put_blob(&gzip(&bomb), "application/vnd.oci.image.layer.v1.tar+gzip");
        put(c, &bomb, |manifest, _| manifest["layers"] = json!([packed]));
    };
    refused(zeros, "limit `ratio`").await;
    let many: Vec<u8> = (0..200).flat_map(|n| entry(&format!("f{n}"), b'0', "")).collect();
    refused(|c| put(c, &many, |_, _| ()), "layer has more than 100 entries: limit `layer_entries`").await;
    let layers =
        |manifest: &mut Value, _: &mut Value| manifest["layers"] = json!(vec![manifest["layers"][0].clone(); 501]);
    refused(|c| put(c, &layer("a", 1), layers), "has 501 layers, more than 500").await;
    let huge = |manifest: &mut Value, _: &mut Value| manifest["annotations"] = json!({"a": "x".repeat(5 << 20)});
    refused(|c| put(c, &layer("a", 1), huge), "sent a manifest of more than 4194304 bytes").await;
    let huge = |_: &mut Value, config: &mut Value| config["history"] = json!(["x".repeat(9 << 20)]);
    refused(|c| put(c, &layer("a", 1), huge), "of more than 8388608 bytes").await;
}

#[tokio::test]
async fn documents_that_lie_are_refused() {
    let plain = || layer("a", 10);
    let other = Digest::of(b"other");
    let diff = other.clone();
    refused(|c| put(c, &plain(), |_, config| config["rootfs"]["diff_ids"] = json!([diff])), "does not unpack to").await;
    refused(
        |c| put(c, &plain(), |_, config| config["rootfs"]["diff_ids"] = json!([])),
        "has 1 layers, and its configuration 0",
    )
    .await;
    refused(
        |c| put(c, &plain(), |_, config| config["architecture"] = json!("s390x")),
        "is for linux/s390x, not for linux/",
    )
    .await;
    let size = plain().len();
    for wrong in [7, size + 512] {
        let expected = format!("has {size} bytes for {} instead of the {wrong} of its manifest", Digest::of(&plain()));
        refused(|c| put(c, &plain(), |m, _| m["layers"][0]["size"] = json!(wrong)), &expected).await;
    }
    refused(|c| put(c, &plain(), |m, _| m["layers"][0]["mediaType"] = json!("text/html")), "no file system layer")
        .await;
    refused(
        |c| put(c, &plain(), |m, _| m["mediaType"] = json!("text/html")),
        "media type `text/html`, which is no image",
    )
    .await;
    refused(|c| put(c, &plain(), |m, _| m["schemaVersion"] = json!(1)), "is of schema version 1").await;
    refused(|c| put(c, &plain(), |m, _| m["layers"][0]["digest"] = json!("sha256:../../etc")), "no JSON document")
        .await;
    let artifact = |c: &mut Contents| {
        let config = c.put_blob(b"{}", "application/vnd.cncf.helm.config.v1+json");
        put(c, &plain(), |manifest, _| manifest["config"] = config);
    };
    refused(artifact, "is no container image but an artifact").await;
    let swapped = |c: &mut Contents| {
        put(c, &plain(), |_, _| ());
        let digest = Digest::of(&plain()).to_string();
        c.blobs.insert(digest, layer("b", 10));
    };
    let expected = format!("content is not {} but {}", Digest::of(&plain()), Digest::of(&layer("b", 10)));
    refused(swapped, &expected).await;
    let misdescribed = |c: &mut Contents| {
        let host = Platform::host();
        let mut entry = c.put_image("ours", &[plain()]);
        let size = entry["size"].as_u64().expect("a size");
        entry["size"] = json!(size + 1);
        entry["platform"] = json!({"os": host.os, "architecture": host.architecture});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        c.put_manifest("1", "application/vnd.oci.image.index.v1+json", &index);
    };
    refused(misdescribed, " bytes instead of the ").await;
}

/// Wherever a layer is damaged, and whatever trips over it first, what is said is that it is another one.
#[tokio::test]
async fn a_damaged_layer_is_said_to_be_another_one() {
    let plain = layer("a", 20_000);
    let right = gzip(&plain);
    for at in [0, 3, 20, 5_000, right.len() - 1] {
        for damage in ["flip", "garbage"] {
            let mut wrong = right.clone();
            match damage {
                "flip" => wrong[at] ^= 0x10,
                _ => wrong[at..].fill(0xa5),
            }
            let expected = format!("wrong digest: content is not {} but {}", Digest::of(&right), Digest::of(&wrong));
            let contents = |c: &mut Contents| {
                let packed = c.put_blob(&right, "application/vnd.oci.image.layer.v1.tar+gzip");
                put(c, &plain, |manifest, _| manifest["layers"] = json!([packed]));
                c.blobs.insert(Digest::of(&right).to_string(), wrong.clone());
            };
            refused(contents, &expected).await;
        }
    }
    // The registry has what it says, and that is no archive, or another one than the configuration means.
    let contents = |c: &mut Contents| {
        let packed = c.put_blob(&gzip(b"no archive, and long enough for a header".repeat(20).as_slice()), OCI_LAYER);
        put(c, &plain, |manifest, _| manifest["layers"] = json!([packed]));
    };
    refused(contents, &format!("layer does not unpack to {} but to sha256:", Digest::of(&plain))).await;
}

#[tokio::test]
async fn a_layer_of_another_length_is_named_with_both() {
    let plain = layer("a", 20_000);
    let size = plain.len();
    for found in [&plain[..size - 512], &[&plain[..], &[0; 512]].concat()] {
        let expected = match found.len() < size {
            true => {
                format!("has {} bytes for {} instead of the {size} of its manifest", found.len(), Digest::of(&plain))
            }
            false => format!("sent more for {} than the {size} bytes of its manifest", Digest::of(&plain)),
        };
        let contents = |c: &mut Contents| put(c, &plain, |_, _| ());
        let (digest, found) = (Digest::of(&plain).to_string(), found.to_vec());
        let hook: Hook = Box::new(move |request, _| request.uri().path().ends_with(&digest).then(|| chunked(&found)));
        let error = pull_through(contents, hook, Limits::default()).await.expect_err("another length");
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn content_inside_a_descriptor_counts_where_it_is_what_it_says() {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let plain = layer("a", 300);
    let inline = |data: String, served: bool| {
        let plain = plain.clone();
        move |c: &mut Contents| {
            put(c, &plain, |manifest, _| manifest["layers"][0]["data"] = json!(data));
            if !served {
                c.blobs.remove(&Digest::of(&plain).to_string());
            }
        }
    };
    assert_eq!(pull(inline(encode(&plain), false), Limits::default()).await, Ok(1));
    for wrong in [encode(&layer("b", 300)), encode(b"short"), "no base64".to_owned(), String::new()] {
        assert_eq!(pull(inline(wrong.clone(), true), Limits::default()).await, Ok(1), "the registry has the right one");
        let error = pull(inline(wrong, false), Limits::default()).await.expect_err("nobody has it");
        assert!(error.contains("not found"), "{error}");
    }
}

#[tokio::test]
async fn layers_that_registries_may_not_distribute_come_from_where_they_say() {
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let plain = layer("a", 300);
    let elsewhere = Registry::start(Box::new(|_, _| None)).await;
    elsewhere.change(|c| drop(c.put_blob(&plain, OCI_LAYER)));
    let good = format!("http://{}/{}", elsewhere.address, Digest::of(&plain));
    let image = |kind: &'static str, urls: Value| {
        let plain = plain.clone();
        move |c: &mut Contents| {
            put(c, &plain, |manifest, _| {
                manifest["layers"][0]["mediaType"] = json!(kind);
                manifest["layers"][0]["urls"] = urls;
            });
            c.blobs.remove(&Digest::of(&plain).to_string());
        }
    };
    assert_eq!(pull(image(FOREIGN, json!(["ftp://x.test/a", good])), Limits::default()).await, Ok(1));
    assert_eq!(elsewhere.log().len(), 1);
    assert!(!elsewhere.log()[0].contains("as someone"));
    let error = pull(image(OCI_LAYER, json!([good])), Limits::default()).await.expect_err("registries have these");
    assert!(error.contains("not found"), "{error}");
    let error = pull(image(FOREIGN, json!(["http://x.test/a"])), Limits::default()).await.expect_err("no TLS");
    assert!(
        error.contains("may be fetched from `http://x.test/a` alone, which is refused: it is not `https`"),
        "{error}"
    );
    let error = pull(image(FOREIGN, json!(null)), Limits::default()).await.expect_err("nowhere");
    assert!(error.contains("not found"), "{error}");
    let lie = format!("http://{}/{}", elsewhere.address, Digest::of(b"other"));
    elsewhere.change(|c| drop(c.blobs.insert(Digest::of(b"other").to_string(), layer("b", 300))));
    let error = pull(image(FOREIGN, json!([lie])), Limits::default()).await.expect_err("a lie");
    assert!(error.contains("wrong digest: content is not"), "{error}");
}

/// Each layer is modest, and all of them together are not.
#[tokio::test]
async fn the_layers_of_an_image_share_its_bounds() {
    let zeros = |name: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(800 << 10);
        builder.append_data(&mut header, name, &vec![0; 800 << 10][..]).expect("written");
        builder.into_inner().expect("an archive")
    };
    let image = |c: &mut Contents| drop(c.put_image("1", &[zeros("a"), zeros("b"), zeros("c")]));
    let usual = Limits { ratio: 20, ratio_free_bytes: 1 << 20, ..Limits::default() };
    let check = async |limits: Limits, expected: &str| {
        let error = pull(image, limits).await.expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    check(usual, "more than 20 times as many: limit `ratio`").await;
    let roomy = Limits { ratio_free_bytes: 10 << 20, ..usual };
    assert_eq!(pull(image, roomy).await, Ok(3));
    check(Limits { image_bytes: 2 << 20, ..roomy }, "image has more than 2097152 bytes: limit `image_bytes`").await;
    check(Limits { image_entries: 2, ..roomy }, "image has more than 2 entries: limit `image_entries`").await;
    check(Limits { layer_bytes: 700 << 10, ..roomy }, "more than 716800 bytes: limit `layer_bytes`").await;
}

#[tokio::test]
async fn a_manifest_that_is_a_web_page_is_no_image() {
    let page: Hook =
        Box::new(|_, _| Some(answer(StatusCode::OK, &[("content-type", "text/html")], b"<html>sign in</html>")));
    let error = pull_through(|_| (), page, Limits::default()).await.expect_err("a page");
    assert!(error.contains("is no JSON document of an image"), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_always_cut_is_given_up() {
    let always: Hook = Box::new(|request, contents| {
        let bytes = contents.blobs.get(request.uri().path().rsplit('/').next()?).filter(|b| b.len() > 100_000)?;
        // No progress at all, for ever.
        Some(cut(StatusCode::OK, &[], bytes, 0))
    });
    let registry = Registry::start(always).await;
    registry.change(|contents| drop(contents.put_image("1", &[layer("a", 300_000)])));
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("a store");
    let reference: Reference = registry.name().parse().expect("a name");
    let client =
        Client::with_patience(Hosts::default(), Patience { pause: Duration::from_millis(1), ..Patience::default() });
    let error = Pull::new(reference).run(&store, &client).await.expect_err("cut").to_string();
    assert!(error.contains("cut the download of sha256:"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path().join("tmp")).expect("readable").count(), 0);
}

#[tokio::test]
async fn every_writing_of_a_layer_is_read() {
    let plain = layer("a", 300);
    let zstd = zstd::encode_all(&plain[..], 3).expect("packed");
    for (packed, kind) in [
        (plain.clone(), OCI_LAYER),
        (gzip(&plain), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
        // Deprecated, and pushed all the same.
        (gzip(&plain), "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        (gzip(&plain), "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    ] {
        let contents = |c: &mut Contents| {
            let packed = c.put_blob(&packed, kind);
            put(c, &plain, |manifest, _| manifest["layers"] = json!([packed]));
        };
        assert_eq!(pull(contents, Limits::default()).await, Ok(1), "{kind}");
    }
}

#[tokio::test]
async fn attestations_beside_an_image_are_not_the_image() {
    let host = Platform::host();
    let contents = |c: &mut Contents| {
        let mut ours = c.put_image("ours", &[layer("a", 10)]);
        ours["platform"] = json!({"os": host.os, "architecture": host.architecture});
        let statement = c.put_blob(b"{}", "application/vnd.in-toto+json");
        let mut attested =
            c.put_manifest("attested", OCI_MANIFEST, &json!({"schemaVersion": 2, "config": statement, "layers": []}));
        attested["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attested["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let index = json!({"schemaVersion": 2, "manifests": [attested, ours]});
        c.put_manifest("1", "application/vnd.oci.image.index.v1+json", &index);
    };
    assert_eq!(pull(contents, Limits::default()).await, Ok(1));
}

#[tokio::test]
async fn an_identity_is_exchanged_for_a_token() {
    let dance: Hook = Box::new(|request, _| {
        let host = request.headers()[http::header::HOST].to_str().expect("a host").to_owned();
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        match (request.uri().path(), authorization.and_then(|value| value.to_str().ok())) {
            ("/token", _) if request.method() == http::Method::POST => {
                Some(answer(StatusCode::OK, &[], br#"{"access_token":"sesame"}"#))
            }
            (_, Some("Bearer sesame")) => None,
            _ => {
                let challenge = format!(r#"Bearer realm="http://{host}/token",service="test""#);
                Some(answer(StatusCode::UNAUTHORIZED, &[("www-authenticate", &challenge)], b""))
            }
        }
    });
    let registry = Registry::start(dance).await;
    registry.change(|contents| drop(contents.put_image("1", &[layer("a", 10)])));
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("a store");
    let credentials = vec![Credential::Identity("refresh".to_owned())];
    let pull = Pull { credentials, ..Pull::new(registry.name().parse().expect("a name")) };
    pull.run(&store, &Client::new(Hosts::default())).await.expect("pulled");
}
