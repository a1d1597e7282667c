//! Manifests, indexes and configurations: the documents that describe an image, in both families (OCI and Docker).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::limits::{MAX_INDEX_ENTRIES, MAX_LAYERS};
use crate::platform::{ImagePlatform, Platform};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What we ask registries for.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("is no JSON document of an image")]
    Json(#[source] serde_json::Error),
    #[error("is of schema version 1, which has not been written since 2017: push the image again")]
    Schema1,
    #[error("has media type `{0}`, which is no image")]
    MediaType(String),
    #[error("is no container image but an artifact with a config of type `{0}`")]
    Artifact(String),
    #[error("has {found} layers, more than {limit}")]
    TooManyLayers { found: usize, limit: usize },
    #[error("has {found} entries, more than {limit}")]
    TooManyEntries { found: usize, limit: usize },
    #[error("has {layers} layers, and its configuration {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("has a layer of type `{0}`, which is no file system layer")]
    LayerType(String),
    #[error("is for {found}, not for {wanted}")]
    Platform { wanted: String, found: String },
    #[error("has no image for {wanted}, only for {}", found.join(", "))]
    NoPlatform { wanted: String, found: Vec<String> },
}

impl ManifestError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Platform { .. } | Self::NoPlatform { .. } => {
                Some("choose another platform with `--platform OS/ARCH`")
            }
            Self::Schema1 => Some("push the image again with a tool of today"),
            Self::Artifact(_) | Self::MediaType(_) => Some("this name is something else than an image: check it"),
            _ => None,
        }
    }
}

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<ImagePlatform>,
    /// Where else the content may be found: followed only for what registries may not distribute.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The content, where the descriptor brings it; what does not have its digest and size does not count.
    pub(crate) fn inline(&self) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(self.data.as_ref()?).ok()?;
        (bytes.len() as u64 == self.size && self.digest.verify(&bytes)).then_some(bytes)
    }

    /// Whether registries may not distribute it, in both families' words.
    pub(crate) fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// Reads a document; the media type in it counts more than what the transport said.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, ManifestError> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if value["schemaVersion"] == 1 {
        return Err(ManifestError::Schema1);
    }
    let said = content_type.map(|said| said.split(';').next().unwrap_or_default().trim());
    let kind = match value["mediaType"].as_str().or(said.filter(|said| ACCEPTED.contains(said))) {
        Some(kind) => kind.to_owned(),
        None if value["manifests"].is_array() => OCI_INDEX.to_owned(),
        None if value["config"].is_object() => OCI_MANIFEST.to_owned(),
        None => return Err(ManifestError::MediaType(said.unwrap_or_default().to_owned())),
    };
    match kind.as_str() {
        OCI_INDEX | DOCKER_LIST => index(value).map(Document::Index),
        OCI_MANIFEST | DOCKER_MANIFEST => manifest(value).map(Box::new).map(Document::Manifest),
        _ => Err(ManifestError::MediaType(kind)),
    }
}

fn index(value: serde_json::Value) -> Result<Index, ManifestError> {
    let index: Index = serde_json::from_value(value).map_err(ManifestError::Json)?;
    let found = index.manifests.len();
    if found > MAX_INDEX_ENTRIES {
        return Err(ManifestError::TooManyEntries { found, limit: MAX_INDEX_ENTRIES });
    }
    Ok(index)
}

fn manifest(value: serde_json::Value) -> Result<Manifest, ManifestError> {
    let manifest: Manifest = serde_json::from_value(value).map_err(ManifestError::Json)?;
    if !manifest.config.media_type.is_empty() && !CONFIGS.contains(&manifest.config.media_type.as_str()) {
        return Err(ManifestError::Artifact(manifest.config.media_type));
    }
    let found = manifest.layers.len();
    if found > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers { found, limit: MAX_LAYERS });
    }
    match manifest.layers.iter().find(|layer| !layer.media_type.is_empty() && !layer.media_type.contains("tar")) {
        Some(layer) => Err(ManifestError::LayerType(layer.media_type.clone())),
        None => Ok(manifest),
    }
}

impl Index {
    /// The entry that runs best on a platform.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor, ManifestError> {
        let known: Vec<(Platform, &Descriptor)> = self
            .manifests
            .iter()
            .filter_map(|entry| Some((Platform::from(entry.platform.as_ref()?), entry)))
            .filter(|(platform, _)| platform.os != "unknown")
            .collect();
        let best = known.iter().filter_map(|(p, entry)| Some((wanted.rank(p)?, *entry))).min_by_key(|(rank, _)| *rank);
        if let Some((_, entry)) = best {
            return Ok(entry);
        }
        // An index of one says nothing of platforms and means the one.
        let silent: Vec<&Descriptor> = self.manifests.iter().filter(|entry| entry.platform.is_none()).collect();
        match silent[..] {
            [only] if known.is_empty() => Ok(only),
            _ => Err(ManifestError::NoPlatform {
                wanted: wanted.to_string(),
                found: known.iter().map(|(platform, _)| platform.to_string()).collect(),
            }),
        }
    }
}

/// What an image says about running it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: RunConfig,
    pub rootfs: RootFs,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `USER`, `UID`, `USER:GROUP`, …; empty means root.
    #[serde(deserialize_with = "null_is_empty")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub working_dir: String,
    /// `80/tcp`; the values are empty objects.
    #[serde(deserialize_with = "null_is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGQUIT` or a number; empty means SIGTERM.
    #[serde(deserialize_with = "null_is_empty")]
    pub stop_signal: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Digests of the layers before compression, bottom first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(bytes).map_err(ManifestError::Json)
    }

    /// Whether the image is for a platform; one that names none is for all.
    pub(crate) fn check(&self, wanted: &Platform, layers: usize) -> Result<(), ManifestError> {
        let diff_ids = self.rootfs.diff_ids.len();
        if layers != diff_ids {
            return Err(ManifestError::LayerCount { layers, diff_ids });
        }
        let found = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        match self.architecture.is_empty() || wanted.rank(&found).is_some() {
            true => Ok(()),
            false => Err(ManifestError::Platform { wanted: wanted.to_string(), found: found.to_string() }),
        }
    }
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn descriptor(kind: &str) -> serde_json::Value {
        json!({"mediaType": kind, "digest": Digest::of(b"x"), "size": 1})
    }

    const PLACES: [&str; 16] = [
        "",
        "/schemaVersion",
        "/mediaType",
        "/config",
        "/config/digest",
        "/config/size",
        "/layers",
        "/layers/0",
        "/layers/0/urls",
        "/manifests",
        "/manifests/0",
        "/manifests/0/platform",
        "/manifests/0/data",
        "/rootfs",
        "/rootfs/diff_ids/0",
        "/config/Env/0",
    ];

    fn values() -> Vec<serde_json::Value> {
        let deep = (0..100).fold(json!(null), |inner, _| json!([inner]));
        let platform = json!({"os": "", "architecture": "", "variant": "v"});
        vec![
            json!(null),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(""),
            json!("sha256:"),
            json!("e30="),
            json!([]),
            json!({}),
            json!([null]),
            json!({"digest": "sha256:x"}),
            json!("\u{0}"),
            platform,
            deep,
            json!(true),
        ]
    }

    fn check(value: &serde_json::Value, said: Option<&str>, expected: &str) {
        let shown = match parse(value.to_string().as_bytes(), said) {
            Ok(Document::Manifest(manifest)) => format!("manifest of {}", manifest.layers.len()),
            Ok(Document::Index(index)) => format!("index of {}", index.manifests.len()),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn documents_of_both_families_are_read() {
        let config = descriptor(CONFIGS[0]);
        let layer = descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip");
        check(&json!({"schemaVersion": 2, "config": config, "layers": [layer]}), None, "manifest of 1");
        check(&json!({"mediaType": DOCKER_MANIFEST, "config": config, "layers": [layer]}), None, "manifest of 1");
        check(&json!({"manifests": [layer]}), Some(OCI_INDEX), "index of 1");
        check(&json!({"mediaType": DOCKER_LIST, "manifests": []}), Some("text/plain"), "index of 0");
        check(&json!({"schemaVersion": 1, "fsLayers": []}), None, "schema version 1");
        check(&json!({}), Some("text/html"), "has media type `text/html`, which is no image");
        check(&json!({"config": descriptor("application/vnd.cncf.helm.config.v1+json")}), None, "an artifact");
        check(&json!({"config": config, "layers": [descriptor("text/plain")]}), None, "no file system layer");
        check(&json!({"config": config, "layers": vec![layer.clone(); 501]}), None, "has 501 layers, more than 500");
        check(&json!({"manifests": vec![layer; 1001]}), None, "has 1001 entries, more than 1000");
        check(&json!([1]), None, "which is no image");
    }

    #[test]
    fn the_platform_chooses_from_an_index() {
        let entry = |os: &str, arch: &str, variant: Option<&str>| {
            json!({"digest": Digest::of(format!("{arch}{variant:?}").as_bytes()), "size": 1,
                "platform": {"os": os, "architecture": arch, "variant": variant}})
        };
        let index: Index = serde_json::from_value(json!({"manifests": [
            entry("unknown", "unknown", None), entry("linux", "arm64", Some("v8")), entry("linux", "amd64", None), entry("linux", "arm", Some("v6")),
        ]}))
        .expect("an index");
        let choose = |wanted: &str| {
            let wanted: Platform = wanted.parse().expect("a platform");
            index.choose(&wanted).map_err(|e| e.to_string()).map(|d| d.platform.clone().expect("one").architecture)
        };
        assert_eq!(choose("linux/amd64").as_deref(), Ok("amd64"));
        assert_eq!(choose("linux/arm64").as_deref(), Ok("arm64"));
        assert_eq!(choose("linux/arm/v7").as_deref(), Ok("arm"));
        assert_eq!(
            choose("linux/riscv64"),
            Err("has no image for linux/riscv64, only for linux/arm64, linux/amd64, linux/arm/v6".to_owned())
        );
    }

    #[test]
    fn empty_lists_may_be_null() {
        let text = r#"{"os":"linux","architecture":"amd64","config":{"Env":null,"Cmd":["a"],"Labels":null},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("a configuration");
        assert_eq!((config.config.cmd, config.config.env), (vec!["a".to_owned()], vec![]));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", said in ".{0,20}") {
            let _ = parse(text.as_bytes(), Some(&said));
            let _ = ImageConfig::parse(text.as_bytes());
            let _ = text.parse::<crate::Reference>();
            let _ = text.parse::<Digest>();
        }

        /// Documents that are almost right: one value in them is another one.
        #[test]
        fn no_bent_document_makes_it_panic(
            kind in 0usize..3, place in prop::sample::select(PLACES.to_vec()), value in prop::sample::select(values()),
        ) {
            let documents: [serde_json::Value; 3] = [
                json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(CONFIGS[0]), "layers": [descriptor("x.tar")]}),
                json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST)]}),
                json!({"os": "linux", "architecture": "amd64", "config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": [Digest::of(b"x")]}}),
            ];
            let mut document = documents[kind].clone();
            if let Some(bent) = document.pointer_mut(place) {
                *bent = value;
            }
            let text = document.to_string();
            if let Ok(Document::Index(index)) = parse(text.as_bytes(), None) {
                let _choice = index.choose(&Platform::host());
                index.manifests.iter().for_each(|entry| drop(entry.inline()));
            }
            if let Ok(config) = ImageConfig::parse(text.as_bytes()) {
                let _checked = config.check(&Platform::host(), 1);
            }
        }

        #[test]
        fn no_reference_like_text_makes_it_panic(text in "[a-zA-Z0-9._:/@\\[\\]-]{0,80}") {
            if let Ok(reference) = text.parse::<crate::Reference>() {
                // What is read is written so that it is read again.
                prop_assert_eq!(reference.to_string().parse::<crate::Reference>().ok(), Some(reference));
            }
        }
    }
}
