//! What the `Content-Type` says a body is.

use sluice_schema::Kind;

use crate::refusal::Refusal;

/// How an object in a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchFormat {
    Json,
    Merge,
    Strategic,
    Apply,
}

const OBJECT_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const CUSTOM_OBJECT_TYPES: &str = "application/json, application/yaml";
const CUSTOM_PATCH_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// The media type without its parameters, in lower case; one with a parameter missing between semicolons is none.
fn media(content_type: Option<&str>) -> String {
    let text = content_type.unwrap_or_default();
    let Some((media, parameters)) = text.split_once(';') else { return text.trim().to_ascii_lowercase() };
    match parameters.trim_start().starts_with(';') {
        true => text.to_owned(),
        false => media.trim().to_ascii_lowercase(),
    }
}

impl BodyFormat {
    /// No content type is JSON.
    pub(crate) fn of(content_type: Option<&str>, kind: &Kind) -> Result<Self, Refusal> {
        match media(content_type).as_str() {
            "" | "application/json" => Ok(Self::Json),
            "application/yaml" => Ok(Self::Yaml),
            "application/vnd.kubernetes.protobuf" if kind.custom.is_none() => Ok(Self::Protobuf),
            _ if kind.custom.is_some() => Err(Refusal::UnknownBodyFormat(CUSTOM_OBJECT_TYPES)),
            _ => Err(Refusal::UnknownBodyFormat(OBJECT_TYPES)),
        }
    }
}

impl PatchFormat {
    pub(crate) fn of(content_type: Option<&str>, kind: &Kind) -> Result<Self, Refusal> {
        match (media(content_type).as_str(), kind.custom.is_some()) {
            ("application/json-patch+json", _) => Ok(Self::Json),
            ("application/merge-patch+json", _) => Ok(Self::Merge),
            ("application/apply-patch+yaml", _) => Ok(Self::Apply),
            ("application/strategic-merge-patch+json", false) => Ok(Self::Strategic),
            (_, true) => Err(Refusal::UnknownBodyFormat(CUSTOM_PATCH_TYPES)),
            (_, false) => Err(Refusal::UnsupportedMediaType),
        }
    }
}
