//! A store on disk, from archives made here: what is shared, what is kept, what goes.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::platform::Platform;

/// A layer with one file.
fn layer(name: &str, text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    builder.append_data(&mut header, name, text.as_bytes()).expect("written");
    builder.into_inner().expect("an archive")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let host = Platform::host();
    json!({"os": host.os, "architecture": host.architecture, "config": {"Cmd": ["run"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

/// What `docker save` writes.
fn docker_archive(tag: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers);
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).to_string();
    let mut files = vec![("config.json".to_owned(), config), ("manifest.json".to_owned(), manifest.into_bytes())];
    files.extend(names.into_iter().zip(layers.iter().cloned()));
    pack(&files)
}

/// An OCI layout whose layers are compressed; the manifest may be bent.
fn oci_files(layers: &[Vec<u8>], bend: impl Fn(&mut serde_json::Value)) -> Vec<(String, Vec<u8>)> {
    let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec());
    let descriptor =
        |bytes: &[u8], kind: &str| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
    let config = config(layers);
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let described: Vec<_> =
        packed.iter().map(|layer| descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
    let mut manifest = json!({"schemaVersion": 2, "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"), "layers": described});
    bend(&mut manifest);
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(&manifest, crate::manifest::OCI_MANIFEST);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "registry.test/oci:1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let mut files = vec![("index.json".to_owned(), index), blob(&manifest), blob(&config)];
    files.extend(packed.iter().map(|layer| blob(layer)));
    files
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, &bytes[..]).expect("written");
    }
    builder.into_inner().expect("an archive")
}

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("images")).expect("a store");
        Self { directory, store }
    }

    fn load(&self, bytes: &[u8]) -> Result<Vec<Image>, String> {
        let path = self.directory.path().join("archive.tar");
        fs::write(&path, bytes).expect("written");
        let loaded = self.store.load(&path, &Platform::host(), None);
        assert_eq!(self.count("tmp"), 0, "nothing unfinished is left");
        loaded.map_err(|error| chain(&error))
    }

    fn count(&self, directory: &str) -> usize {
        fs::read_dir(self.store.root().join(directory)).map_or(0, Iterator::count)
    }

    fn names(&self) -> Vec<String> {
        self.store.list().expect("listed").into_iter().flat_map(|record| record.names).collect()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source))).unwrap_or_default();
    format!("{error}{cause}")
}

fn read(image: &Image, layer: usize, name: &str) -> String {
    fs::read_to_string(image.layers[layer].join(name)).expect(name)
}

#[test]
fn archives_of_every_kind_become_images() {
    let layers = [layer("a", "one"), layer("b", "two")];
    let check = |world: &World, bytes: &[u8], name: &str| {
        let image = world.load(bytes).expect("loaded").remove(0);
        assert_eq!(image.record.names.first().map(String::as_str), Some(name));
        assert_eq!((read(&image, 0, "a"), read(&image, 1, "b")), ("one".to_owned(), "two".to_owned()));
        assert_eq!(image.config.config.cmd, ["run"]);
        assert_eq!(image.record.unpacked, 6);
    };
    let world = World::new();
    check(&world, &docker_archive("saved:1", &layers), "docker.io/library/saved:1");
    check(&world, &pack(&oci_files(&layers, |_| ())), "docker.io/library/saved:1");
    assert_eq!(world.names(), ["docker.io/library/saved:1", "registry.test/oci:1"], "one image under two names");
    assert_eq!((world.count("layers"), world.store.list().expect("listed").len()), (2, 1));
    let world = World::new();
    check(&world, &gzip(&docker_archive("saved:1", &layers)), "docker.io/library/saved:1");
    let world = World::new();
    let layout = world.directory.path().join("layout");
    for (name, bytes) in oci_files(&layers, |_| ()) {
        let path = layout.join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let name: Reference = "given:1".parse().expect("a name");
    let image = world.store.load(&layout, &Platform::host(), Some(&name)).expect("loaded").remove(0);
    assert_eq!(image.record.names.len(), 2, "its own name and the given one");
    assert!(image.status_id(&name).starts_with("docker.io/library/given@sha256:"));
    let id = image.id().to_string();
    for text in ["given:1", "docker.io/library/given:1", &id, &id[7..], &id[7..19]] {
        assert!(world.store.find(text).expect(text).is_some(), "{text}");
    }
    assert_eq!(world.store.find("given:2").expect("answered"), None);
}

#[test]
fn lies_and_gaps_are_refused_and_leave_nothing() {
    let layers = [layer("a", "one")];
    let world = World::new();
    let refused = |files: &[(String, Vec<u8>)], expected: &str| {
        let error = world.load(&pack(files)).expect_err(expected);
        assert!(error.contains(expected), "{error}");
        assert_eq!((world.count("layers"), world.names().len()), (0, 0));
        assert_eq!((world.count("blobs/sha256"), world.count("locks")), (0, 0), "{error}");
    };
    let other = Digest::of(b"other");
    refused(&oci_files(&layers, |m| m["layers"][0]["size"] = json!(1)), "bytes instead of 1");
    refused(
        &oci_files(&layers, |m| m["layers"][0]["digest"] = json!(other)),
        &format!("has no `blobs/sha256/{}`", other.hex()),
    );
    refused(&oci_files(&layers, |m| m["layers"] = json!([])), "has 0 layers, and its configuration 1");
    let mut swapped = oci_files(&layers, |_| ());
    swapped.last_mut().expect("a layer").1 = gzip(&layer("evil", "x"));
    refused(&swapped, "wrong digest: content is not sha256:");
    let mut swapped = oci_files(&layers, |_| ());
    swapped[2].1 = config(&[layer("evil", "x")]);
    refused(&swapped, "content is not sha256:");
    refused(&oci_files(&layers, |m| m["config"]["mediaType"] = json!("application/vnd.x+json")), "an artifact");
    refused(&[("x".to_owned(), vec![])], "has neither `manifest.json` nor `index.json`");
    let saved = json!([{"Config": "../../etc/passwd", "Layers": []}]).to_string().into_bytes();
    refused(&[("manifest.json".to_owned(), saved)], "has no `../../etc/passwd`");
    assert!(world.load(b"not an archive, but long enough to have a header".repeat(20).as_slice()).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_damaged_archive_makes_it_panic_or_leaves_anything(docker: bool, packed: bool, at in 0usize..20_000, byte: u8) {
        let layers = [layer("a", "one")];
        let mut bytes = if docker { docker_archive("saved:1", &layers) } else { pack(&oci_files(&layers, |_| ())) };
        let damaged = at % bytes.len();
        bytes[damaged] = byte;
        let world = World::new();
        if world.load(&if packed { gzip(&bytes) } else { bytes }).is_err() {
            proptest::prop_assert_eq!((world.count("layers"), world.count("blobs/sha256"), world.count("locks")), (0, 0, 0));
        }
    }
}

#[test]
fn what_is_shared_stays_until_its_last_image_goes() {
    let world = World::new();
    let base = layer("base", "shared");
    world.load(&docker_archive("one:1", &[base.clone(), layer("a", "1")])).expect("loaded");
    world.load(&docker_archive("two:1", &[base, layer("b", "2")])).expect("loaded");
    assert_eq!(world.count("layers"), 3);
    let (_, gone) = world.store.remove("one:1", false).expect("removed");
    assert!(gone);
    assert_eq!((world.count("layers"), world.count("blobs/sha256")), (2, 1));
    let two = world.store.find("two:1").expect("answered").expect("still there");
    assert_eq!(read(&two, 0, "base"), "shared");
    world.store.tag(two.id(), &"alias:1".parse().expect("a name")).expect("tagged");
    assert!(!world.store.remove("two:1", false).expect("untagged").1, "one of two names");
    assert_eq!(world.names(), ["docker.io/library/alias:1"]);
    assert_eq!(world.store.remove("nothing:1", false).expect_err("unknown").to_string(), "no image `nothing:1`");
}

#[test]
fn a_leased_image_stays() {
    let world = World::new();
    let image = world.load(&docker_archive("one:1", &[layer("a", "1")])).expect("loaded").remove(0);
    world.store.lease("pod-1", &[image.id().clone()]).expect("leased");
    let refused = world.store.remove("one:1", false).expect_err("in use").to_string();
    assert_eq!(refused, "image `one:1` is needed by pod-1");
    let all =
        |world: &World| world.store.free(u64::MAX, Duration::ZERO, Timestamp::now()).expect("collected").removed.len();
    assert_eq!(all(&world), 0);
    world.store.release("pod-1").expect("released");
    world.store.release("pod-1").expect("releasing twice is no error");
    assert_eq!(all(&world), 1);
    assert_eq!((world.count("layers"), world.count("blobs/sha256")), (0, 0));
}

#[test]
fn an_image_that_was_removed_meanwhile_is_not_leased() {
    let world = World::new();
    let image = world.load(&docker_archive("one:1", &[layer("a", "1")])).expect("loaded").remove(0);
    assert!(world.store.lease_more("pod-1", image.id()).expect("leased"));
    let other = world.load(&docker_archive("two:1", &[layer("a", "2")])).expect("loaded").remove(0);
    world.store.remove("two:1", false).expect("removed");
    assert!(!world.store.lease_more("pod-1", other.id()).expect("answered"));
    assert_eq!(world.store.leases().expect("read")["pod-1"], [image.id().clone()]);
    assert_eq!(world.store.free(u64::MAX, Duration::ZERO, Timestamp::now()).expect("collected").removed, []);
}

/// Its configuration came first, its layers an hour later.
#[test]
fn an_image_is_as_young_as_the_end_of_its_pull() {
    let world = World::new();
    let image = world.load(&docker_archive("one:1", &[layer("a", "1")])).expect("loaded").remove(0);
    let long_ago = rustix::fs::Timespec { tv_sec: 100, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: long_ago, last_modification: long_ago };
    let path = world.store.blob_path(image.id());
    rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).expect("set");
    world.store.commit(image.record.clone()).expect("known");
    assert!(world.store.last_used(&image.record) >= image.record.pulled);
}

#[test]
fn what_cannot_be_removed_keeps_no_store_closed() {
    let world = World::new();
    let root = world.store.root().to_owned();
    fs::write(root.join("index.json"), "no JSON").expect("written");
    Store::open(&root).expect("opened");
    let error = world.store.list().expect_err("damaged");
    assert_eq!(error.hint(), Some("move the file away and pull the images again"));
}

#[test]
fn a_full_disk_is_named_with_its_path() {
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
        let error = StoreError::io("write", Path::new("/data/x"))(errno.into());
        assert_eq!(error.to_string(), "the disk is full: no space left to write `/data/x`");
        assert!(error.hint().is_some_and(|hint| hint.contains("sluice image rm")));
    }
    let error = StoreError::DiskFull { act: "unpack it into".to_owned(), path: "/data".into(), needed: Some(7) };
    assert_eq!(
        error.to_string(),
        "the disk is full: no space left to unpack it into `/data`, which takes at least 7 bytes"
    );
}

#[test]
fn the_longest_unused_image_goes_first_and_young_ones_stay() {
    let world = World::new();
    for (name, text) in [("one:1", "11111"), ("two:1", "22222"), ("three:1", "33333")] {
        world.load(&docker_archive(name, &[layer("a", text)])).expect("loaded");
    }
    let pulled = Timestamp::now().as_second();
    let used = |name: &str, later: i64| {
        let image = world.store.find(name).expect("answered").expect(name);
        let time = rustix::fs::Timespec { tv_sec: pulled + later, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let path = world.store.blob_path(image.id());
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).expect("set");
    };
    [("one:1", 300), ("two:1", 100), ("three:1", 200)].iter().for_each(|(name, at)| used(name, *at));
    let now = Timestamp::from_second(pulled + 350).expect("a time");
    let freed = world.store.free(6, Duration::from_secs(100), now).expect("collected");
    let names: Vec<&String> = freed.removed.iter().flat_map(|record| &record.names).collect();
    assert_eq!(names, ["docker.io/library/two:1", "docker.io/library/three:1"]);
    let freed = world.store.free(6, Duration::from_secs(100), now).expect("collected");
    assert_eq!((freed.removed.len(), freed.missing), (0, 6), "the last one is too young");
}

#[test]
fn room_is_made_when_the_disk_is_as_full_as_the_policy_says() {
    let world = World::new();
    world.load(&docker_archive("one:1", &[layer("a", "1")])).expect("loaded");
    world.load(&docker_archive("two:1", &[layer("a", "2")])).expect("loaded");
    let needed = world.store.find("two:1").expect("answered").expect("here").id().clone();
    world.store.lease("pod", &[needed]).expect("leased");
    fs::create_dir_all(world.store.root().join("layers/abc/fs")).expect("made");
    let now = Timestamp::now();
    let usual = Policy::default();
    assert_eq!((usual.high_percent, usual.low_percent, usual.min_age.as_secs()), (85, 80, 120));
    let roomy = Policy { high_percent: 101, low_percent: 0, min_age: Duration::ZERO };
    assert_eq!(world.store.collect(roomy, now).expect("collected").removed, []);
    assert_eq!(world.count("layers"), 2, "what no image speaks of goes all the same");
    let full = Policy { high_percent: 0, ..roomy };
    let later = now.checked_add(Duration::from_secs(1)).expect("a time");
    let removed = world.store.collect(full, later).expect("collected").removed;
    let names: Vec<&String> = removed.iter().flat_map(|record| &record.names).collect();
    assert_eq!(names, ["docker.io/library/one:1"]);
    assert_eq!(world.names(), ["docker.io/library/two:1"], "a pod needs it");
}

#[test]
fn what_a_killed_pull_left_is_swept() {
    let world = World::new();
    let root = world.store.root().to_owned();
    fs::create_dir_all(root.join("tmp/1-2-3/fs/x")).expect("made");
    fs::create_dir_all(root.join("layers/abc/fs")).expect("made");
    let hold = world.store.hold().expect("held");
    Store::open(&root).expect("opened");
    assert_eq!((world.count("tmp"), world.count("layers")), (1, 1), "somebody may be at work");
    drop(hold);
    Store::open(&root).expect("opened");
    assert_eq!((world.count("tmp"), world.count("layers")), (0, 0));
}
