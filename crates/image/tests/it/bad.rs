//! Images that lie, escape or burst: each is refused in words, and nothing of it stays in the store.

use std::path::{Path, PathBuf};

use http::StatusCode;
use serde_json::{Value, json};
use sluice_image::{Credential, Digest, Hosts, Limits, Platform, Pull, Reference, Registry as Client, Store};

use crate::registry::{Contents, Hook, Registry, answer, cut, gzip, layer};

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
    refused(|c| put(c, &plain(), |m, _| m["layers"][0]["size"] = json!(7)), "sent more for sha256:").await;
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
    refused(swapped, "does not unpack to").await;
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
    let error = Pull::new(reference).run(&store, &Client::new(Hosts::default())).await.expect_err("cut").to_string();
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
