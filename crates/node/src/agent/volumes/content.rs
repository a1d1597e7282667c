//! What files a volume holds, from the objects that it names.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection},
};

use super::atomic::{File, Payload};
use crate::agent::{
    downward::{self, DownwardError, Facts},
    sources::Sources,
    tokens::Tokens,
};

const DEFAULT_MODE: i32 = 0o644;

#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("{kind} \"{name}\" references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("{path}: {source}")]
    Downward { path: String, source: DownwardError },
    #[error("no token for the service account yet")]
    NoToken,
    #[error("this kind of projection is not supported")]
    Projection,
}

/// Whether a volume is made of files from the API, which nobody but us writes.
pub(super) fn is_content(volume: &Volume) -> bool {
    let Volume { config_map, secret, downward_api, projected, .. } = volume;
    config_map.is_some() || secret.is_some() || downward_api.is_some() || projected.is_some()
}

/// `None`: the volume is not made of files from the API.
pub(super) fn payload(
    pod: &Pod,
    facts: &Facts,
    sources: &Sources,
    volume: &Volume,
    tokens: &Tokens,
) -> Result<Option<Payload>, ContentError> {
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        config_map(sources, &source.name, source.items.as_deref(), source.optional, mode, &mut files)?;
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(sources, name, source.items.as_deref(), source.optional, mode, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward_files(pod, facts, source.items.as_deref(), mode, &mut files)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            projection(pod, facts, sources, source, mode, tokens, &mut files)?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn projection(
    pod: &Pod,
    facts: &Facts,
    sources: &Sources,
    source: &VolumeProjection,
    mode: i32,
    tokens: &Tokens,
    files: &mut Payload,
) -> Result<(), ContentError> {
    if let Some(source) = &source.config_map {
        config_map(sources, &source.name, source.items.as_deref(), source.optional, mode, files)
    } else if let Some(source) = &source.secret {
        secret(sources, &source.name, source.items.as_deref(), source.optional, mode, files)
    } else if let Some(source) = &source.downward_api {
        downward_files(pod, facts, source.items.as_deref(), mode, files)
    } else if let Some(source) = &source.service_account_token {
        let token = tokens.get(source).ok_or(ContentError::NoToken)?;
        files.insert(source.path.clone(), file(token.as_bytes().to_vec(), mode));
        Ok(())
    } else {
        Err(ContentError::Projection)
    }
}

fn config_map(
    sources: &Sources,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    files: &mut Payload,
) -> Result<(), ContentError> {
    let optional = optional == Some(true);
    match sources.config_map(name) {
        Some(map) => pick("configmap", name, &config_map_bytes(map), items, optional, mode, files),
        None if optional => Ok(()),
        None => Err(ContentError::NoConfigMap(name.to_owned())),
    }
}

fn secret(
    sources: &Sources,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    files: &mut Payload,
) -> Result<(), ContentError> {
    let optional = optional == Some(true);
    match sources.secret(name) {
        Some(secret) => {
            let entries = secret.data.iter().flatten();
            let bytes = entries.map(|(key, ByteString(value))| (key.clone(), value.clone())).collect();
            pick("secret", name, &bytes, items, optional, mode, files)
        }
        None if optional => Ok(()),
        None => Err(ContentError::NoSecret(name.to_owned())),
    }
}

fn config_map_bytes(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, ByteString(value))| (key.clone(), value.clone()));
    text.chain(binary).collect()
}

/// All entries under their keys, or the chosen ones under their paths.
fn pick(
    kind: &'static str,
    name: &str,
    entries: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
    files: &mut Payload,
) -> Result<(), ContentError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(entries.iter().map(|(key, value)| (key.clone(), file(value.clone(), mode))));
        return Ok(());
    };
    for item in items {
        match entries.get(&item.key) {
            Some(value) => drop(files.insert(item.path.clone(), file(value.clone(), item.mode.unwrap_or(mode)))),
            None if optional => {}
            None => return Err(ContentError::NoKey { kind, name: name.to_owned(), key: item.key.clone() }),
        }
    }
    Ok(())
}

fn downward_files(
    pod: &Pod,
    facts: &Facts,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    files: &mut Payload,
) -> Result<(), ContentError> {
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, facts, &field.field_path),
            (None, Some(selector)) => downward::resource(pod, None, facts, selector),
            (None, None) => Ok(String::new()),
        };
        let text = text.map_err(|source| ContentError::Downward { path: item.path.clone(), source })?;
        files.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
    }
    Ok(())
}

fn file(content: Vec<u8>, mode: i32) -> File {
    File { content, mode: mode.unsigned_abs() & 0o7777 }
}
