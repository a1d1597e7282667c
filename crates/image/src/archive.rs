//! Images in files: what `docker save` writes, OCI archives, and OCI layout directories.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Take, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;

use crate::decompress::Decompressor;
use crate::digest::Digest;
use crate::limits::{Budget, MAX_CONFIG_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES};
use crate::manifest::{self, Descriptor, Document, ImageConfig, Index, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::{Reference, ReferenceError};
use crate::store::{Image, Lock, Record, Store, StoreError, chain_ids};
use crate::tar::{Kind, TarError, TarReader};

/// Images in one file.
const MAX_IMAGES: usize = 256;
/// Files in an archive: blobs, not what lies in them.
const MAX_MEMBERS: usize = 100_000;
/// What a compressed archive is unpacked through.
const COPY_BUFFER: usize = 256 << 10;
/// How long to wait for somebody who unpacks the same layer, and how often to look.
const LAYER_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is no archive", path.display())]
    Tar { path: PathBuf, source: TarError },
    #[error("`{}` has neither `manifest.json` nor `index.json`: it is no image", path.display())]
    NoImage { path: PathBuf },
    #[error("`{}` has no `{member}`", path.display())]
    Missing { path: PathBuf, member: String },
    #[error("`{member}` is larger than {limit} bytes")]
    TooLarge { member: String, limit: u64 },
    #[error("`{}` has more than {limit} {what}", path.display())]
    TooMany { path: PathBuf, what: &'static str, limit: usize },
    #[error("`{member}`")]
    Manifest { member: String, source: ManifestError },
    #[error("`{member}` cannot be read")]
    Json { member: String, source: serde_json::Error },
    #[error("name `{name}`")]
    Name { name: String, source: ReferenceError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::Tar { .. } | Self::NoImage { .. } => {
                Some("give what `docker save` writes, an OCI archive, or the directory of an OCI layout")
            }
            Self::Missing { .. } | Self::Json { .. } => Some("the file is not whole: save the image again"),
            Self::Manifest { source, .. } => source.hint(),
            Self::TooLarge { .. } | Self::TooMany { .. } => Some("save fewer images into one file"),
            Self::Name { .. } => Some("save the image under a name such as `example.org/app:1`"),
            Self::Store(error) => error.hint(),
        }
    }
}

impl Store {
    /// Brings every image of a file or layout directory in that is for the platform; `name` names one that has none itself.
    pub fn load(&self, path: &Path, platform: &Platform, name: Option<&Reference>) -> Result<Vec<Image>, ArchiveError> {
        let result = self.load_held(path, platform, name);
        if result.is_err() {
            // What came before the failure is of no use; why it failed matters more than that it cannot be removed.
            let _left = self.sweep_if_idle();
        }
        result
    }

    fn load_held(
        &self,
        path: &Path,
        platform: &Platform,
        name: Option<&Reference>,
    ) -> Result<Vec<Image>, ArchiveError> {
        let _hold = self.hold()?;
        let files = Members::open(path, self)?;
        let found = match (files.has("manifest.json"), files.has("index.json")) {
            // `docker save` of today writes both; its own manifest has the names.
            (true, _) => docker_images(&files)?,
            (false, true) => oci_images(&files, platform)?,
            (false, false) => return Err(ArchiveError::NoImage { path: path.to_owned() }),
        };
        if found.len() > MAX_IMAGES {
            return Err(ArchiveError::TooMany { path: path.to_owned(), what: "images", limit: MAX_IMAGES });
        }
        let only = found.len() == 1;
        found.into_iter().map(|found| self.take(&files, found, platform, name.filter(|_| only))).collect()
    }

    /// The right to unpack a layer. Somebody who keeps it for long may hang: then the layer is unpacked twice.
    #[expect(clippy::disallowed_methods, reason = "a lock of another process tells nobody that it is free")]
    fn wait_for_layer(&self, diff_id: &Digest) -> Result<Option<Lock>, StoreError> {
        let since = Instant::now();
        loop {
            let lock = self.try_lock_layer(diff_id)?;
            if lock.is_some() || since.elapsed() > LAYER_PATIENCE {
                return Ok(lock);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn take(
        &self,
        files: &Members,
        found: Found,
        platform: &Platform,
        name: Option<&Reference>,
    ) -> Result<Image, ArchiveError> {
        let config_bytes = files.small(&found.config, MAX_CONFIG_BYTES)?;
        let wrong = |source| ArchiveError::Manifest { member: found.config.clone(), source };
        let config = ImageConfig::parse(&config_bytes).map_err(wrong)?;
        config.check(platform, found.layers.len()).map_err(wrong)?;
        let id = found.config_digest.clone().unwrap_or_else(|| Digest::of(&config_bytes));
        self.put_blob(&id, &config_bytes)?;
        if let Some((digest, bytes)) = &found.manifest {
            self.put_blob(digest, bytes)?;
        }
        let diff_ids = &config.rootfs.diff_ids;
        let budget = self.budget();
        let mut keys: Vec<String> = Vec::new();
        let mut size = config_bytes.len() as u64;
        for ((layer, diff_id), chain_id) in found.layers.iter().zip(diff_ids).zip(chain_ids(diff_ids)) {
            size += files.size(&layer.member)?;
            let _alone = self.wait_for_layer(diff_id)?;
            let key = match self.layer(diff_id, &chain_id) {
                Some(key) => key,
                None => {
                    let input = files.open_member(&layer.member)?;
                    let mut pending = self.unpack(input, layer.packed.as_ref(), diff_id, &budget)?;
                    self.publish(&mut pending, &chain_id, &keys)?
                }
            };
            keys.push(key);
        }
        let manifest = found.manifest.map(|(digest, _)| digest);
        let names: Vec<&Reference> = found.names.iter().chain(name).collect();
        let tagged = names.iter().filter(|name| name.digest().is_none());
        let digests = names.iter().filter_map(|name| Some(name.with_digest(manifest.as_ref()?).to_string()));
        let record = Record {
            unpacked: keys.iter().map(|key| self.layer_bytes(key)).sum(),
            names: tagged.map(ToString::to_string).collect(),
            digests: digests.collect(),
            layers: keys,
            pulled: Timestamp::now(),
            id: id.clone(),
            manifest,
            size,
        };
        self.commit(record)?;
        Ok(self.find(&id.to_string())?.expect("committed just now"))
    }
}

/// An image in a file, before anything of it is unpacked.
struct Found {
    names: Vec<Reference>,
    config: String,
    config_digest: Option<Digest>,
    layers: Vec<Layer>,
    manifest: Option<(Digest, Vec<u8>)>,
}

struct Layer {
    member: String,
    packed: Option<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

fn docker_images(files: &Members) -> Result<Vec<Found>, ArchiveError> {
    const MEMBER: &str = "manifest.json";
    let bytes = files.small(MEMBER, MAX_MANIFEST_BYTES)?;
    let saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Json { member: MEMBER.to_owned(), source })?;
    saved
        .into_iter()
        .map(|saved| {
            let names = saved.repo_tags.unwrap_or_default();
            let names = names.into_iter().map(parse_name).collect::<Result<_, _>>()?;
            let layers = saved.layers.into_iter().map(|member| Layer { member, packed: None }).collect();
            Ok(Found { names, config: saved.config, config_digest: None, layers, manifest: None })
        })
        .collect()
}

fn parse_name(name: String) -> Result<Reference, ArchiveError> {
    name.parse().map_err(|source| ArchiveError::Name { name, source })
}

fn oci_images(files: &Members, platform: &Platform) -> Result<Vec<Found>, ArchiveError> {
    let bytes = files.small("index.json", MAX_MANIFEST_BYTES)?;
    let document = manifest::parse(&bytes, Some(manifest::OCI_INDEX));
    let index = match document.map_err(|source| ArchiveError::Manifest { member: "index.json".to_owned(), source })? {
        Document::Index(index) => index,
        Document::Manifest(_) => Index { manifests: Vec::new() },
    };
    // Entries of several platforms are one image; those with names are one each.
    let named: Vec<&Descriptor> = index.manifests.iter().filter(|entry| name_of(entry).is_some()).collect();
    let chosen = match named.is_empty() && !index.manifests.is_empty() {
        true => vec![index.choose(platform).map_err(|source| member_failed("index.json", source))?],
        false => named,
    };
    chosen.into_iter().map(|entry| oci_image(files, entry, platform)).collect()
}

/// The name that an entry was stored under, where it is a whole one.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let named = entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REF_NAME))?;
    // Many writers put the bare tag there.
    named.contains(['/', ':']).then(|| named.parse().ok()).flatten()
}

fn oci_image(files: &Members, entry: &Descriptor, platform: &Platform) -> Result<Found, ArchiveError> {
    let mut entry = entry.clone();
    let names = name_of(&entry).into_iter().collect();
    for _ in 0..MAX_INDEX_DEPTH {
        let member = blob(&entry.digest);
        let bytes = files.small(&member, MAX_MANIFEST_BYTES)?;
        if !entry.digest.verify(&bytes) {
            let found = Digest::of(&bytes);
            return Err(StoreError::Digest { expected: entry.digest, found }.into());
        }
        match manifest::parse(&bytes, Some(&entry.media_type)).map_err(|source| member_failed(&member, source))? {
            Document::Index(index) => {
                entry = index.choose(platform).map_err(|source| member_failed(&member, source))?.clone();
            }
            Document::Manifest(manifest) => {
                let Manifest { config, layers } = *manifest;
                let layers = layers.into_iter().map(|l| Layer { member: blob(&l.digest), packed: Some(l) }).collect();
                let manifest = Some((entry.digest, bytes));
                let config_digest = Some(config.digest.clone());
                return Ok(Found { names, config: blob(&config.digest), config_digest, layers, manifest });
            }
        }
    }
    Err(ArchiveError::TooLarge { member: "index.json".to_owned(), limit: MAX_INDEX_DEPTH as u64 })
}

fn member_failed(member: &str, source: ManifestError) -> ArchiveError {
    ArchiveError::Manifest { member: member.to_owned(), source }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Files by their name: in a directory, or at their place in an archive.
struct Members {
    path: PathBuf,
    kind: Source,
}

enum Source {
    Directory,
    /// Offset and length of each file.
    Archive(File, BTreeMap<String, (u64, u64)>),
}

impl Members {
    fn open(path: &Path, store: &Store) -> Result<Self, ArchiveError> {
        let read = |source| ArchiveError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(read)?.is_dir() {
            return Ok(Self { path: path.to_owned(), kind: Source::Directory });
        }
        let mut file = File::open(path).map_err(read)?;
        let mut magic = [0; 4];
        let n = file.read(&mut magic).map_err(read)?;
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        if n == 4 && (magic[..2] == [0x1f, 0x8b] || magic == [0x28, 0xb5, 0x2f, 0xfd]) {
            // Its members are read in another order than they lie: unpacked aside once, into a file without a name.
            let mut plain = unnamed(store)?;
            unpack_aside(file, &mut plain, &store.budget(), path, store)?;
            file = plain;
            file.seek(SeekFrom::Start(0)).map_err(read)?;
        }
        let members = list(&mut file, path)?;
        Ok(Self { path: path.to_owned(), kind: Source::Archive(file, members) })
    }

    fn has(&self, member: &str) -> bool {
        self.size(member).is_ok()
    }

    fn size(&self, member: &str) -> Result<u64, ArchiveError> {
        match &self.kind {
            Source::Directory => Ok(self.file(member)?.1),
            Source::Archive(_, members) => {
                members.get(member).map(|(_, size)| *size).ok_or_else(|| self.missing(member))
            }
        }
    }

    fn small(&self, member: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.size(member)? > limit {
            return Err(ArchiveError::TooLarge { member: member.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        let read = |source| ArchiveError::Read { path: self.path.clone(), source };
        self.open_member(member)?.read_to_end(&mut bytes).map_err(read)?;
        Ok(bytes)
    }

    fn open_member(&self, member: &str) -> Result<Take<File>, ArchiveError> {
        match &self.kind {
            Source::Directory => self.file(member).map(|(file, size)| file.take(size)),
            Source::Archive(_, members) => {
                let (offset, size) = *members.get(member).ok_or_else(|| self.missing(member))?;
                let read = |source| ArchiveError::Read { path: self.path.clone(), source };
                // Opened anew: each reader has a position of its own.
                let mut file = self.reopen().map_err(read)?;
                file.seek(SeekFrom::Start(offset)).map_err(read)?;
                Ok(file.take(size))
            }
        }
    }

    fn reopen(&self) -> std::io::Result<File> {
        use std::os::fd::AsRawFd as _;
        match &self.kind {
            Source::Directory => File::open(&self.path),
            Source::Archive(file, _) => File::open(format!("/proc/self/fd/{}", file.as_raw_fd())),
        }
    }

    /// A file of a layout; names come from digests or were checked to be plain.
    fn file(&self, member: &str) -> Result<(File, u64), ArchiveError> {
        let plain = member.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let open = || {
            let file = File::open(self.path.join(member))?;
            let size = file.metadata()?.len();
            Ok::<_, std::io::Error>((file, size))
        };
        plain.then(|| open().ok()).flatten().ok_or_else(|| self.missing(member))
    }

    fn missing(&self, member: &str) -> ArchiveError {
        ArchiveError::Missing { path: self.path.clone(), member: member.to_owned() }
    }
}

fn unnamed(store: &Store) -> Result<File, StoreError> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let directory = store.root().join("tmp");
    match openat(CWD, &directory, flags, Mode::from(0o600)) {
        Ok(file) => Ok(file.into()),
        Err(errno) => Err(StoreError::io("make a file in", &directory)(errno.into())),
    }
}

/// Decompresses an archive; the disk that may be full is the store's, not the archive's.
fn unpack_aside(
    packed: File,
    plain: &mut File,
    budget: &Budget,
    path: &Path,
    store: &Store,
) -> Result<(), ArchiveError> {
    let read = |source| ArchiveError::Read { path: path.to_owned(), source };
    let mut packed = Decompressor::new(packed, budget).map_err(read)?;
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let n = packed.read(&mut buffer).map_err(read)?;
        if n == 0 {
            return Ok(());
        }
        plain.write_all(&buffer[..n]).map_err(StoreError::io("unpack the archive into", &store.root().join("tmp")))?;
    }
}

/// Where the files of an archive lie; old archives of docker name a layer twice, by a link.
fn list(file: &mut File, path: &Path) -> Result<BTreeMap<String, (u64, u64)>, ArchiveError> {
    let wrong = |source| ArchiveError::Tar { path: path.to_owned(), source };
    let mut members = BTreeMap::new();
    let mut links: Vec<(String, String)> = Vec::new();
    let mut archive = TarReader::new(&mut *file);
    while let Some(entry) = archive.next_entry().map_err(wrong)? {
        let name = normal(&String::from_utf8_lossy(&entry.path));
        match &entry.kind {
            Kind::File => {
                let offset = archive.position().map_err(|error| wrong(TarError::Io(error)))?;
                members.insert(name, (offset, entry.size));
                archive.pass().map_err(|error| wrong(TarError::Io(error)))?;
            }
            Kind::Symlink(target) | Kind::Hardlink(target) => {
                let target = String::from_utf8_lossy(target).into_owned();
                links.push((name, target));
            }
            _ => {}
        }
        if members.len() + links.len() > MAX_MEMBERS {
            return Err(ArchiveError::TooMany { path: path.to_owned(), what: "files", limit: MAX_MEMBERS });
        }
    }
    for (name, target) in links {
        let beside = format!("{}/{target}", name.rsplit_once('/').map_or("", |(directory, _)| directory));
        if let Some(place) = members.get(&normal(&beside)).or_else(|| members.get(&normal(&target))).copied() {
            members.insert(name, place);
        }
    }
    Ok(members)
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
