//! What people write for an image, and what it means: registry, repository, tag, digest.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry of names that give none.
const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT: &str = "index.docker.io";
/// The part of the default registry where names without a slash live.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A reference in full: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Worded as container runtimes word it: people search for these texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("repository name must have at least one component")]
    Empty,
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
}

impl Reference {
    /// The host, with its port, as written: `docker.io` even though another host serves it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// `latest` where neither tag nor digest is given; `None` beside a digest alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, as in `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// This repository's image of another digest, as pod statuses show it.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// What stands in `/v2/NAME/manifests/…`: the digest wins over the tag.
    pub fn manifest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }

    /// The short form that people write: without the default registry and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix(OFFICIAL).filter(|_| self.registry == DEFAULT_REGISTRY).unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (registry, rest) = split_registry(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(path.to_owned()));
        }
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("{OFFICIAL}{path}"),
            false => path.to_owned(),
        };
        if !is_registry(&registry) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        if repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The first part is a host when nothing else can look like it.
fn split_registry(text: &str) -> (String, &str) {
    let host = text.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    });
    match host {
        Some((LEGACY_DEFAULT, rest)) => (DEFAULT_REGISTRY.to_owned(), rest),
        Some((first, rest)) => (first.to_owned(), rest),
        None => (DEFAULT_REGISTRY.to_owned(), text),
    }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    use crate::digest::DigestError;
    text.parse().map_err(|error| match error {
        DigestError::Algorithm(_) => ReferenceError::DigestAlgorithm,
        DigestError::Length(_) => ReferenceError::DigestLength,
        DigestError::Shape(_) | DigestError::Format(_) => ReferenceError::Format,
    })
}

/// `host`, `host:port`, `[v6]:port`; labels as in DNS.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => {
            if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            (None, rest.strip_prefix(':').or((!rest.is_empty()).then_some("-")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(label)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lowercase letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(*first)
        && alphanumeric(*last)
        && bytes
            .split(|b| alphanumeric(*b))
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = text.parse::<Reference>().map_or_else(|e| e.to_string(), |r| r.to_string());
        assert_eq!(shown, expected, "{text}");
    }

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_become_full_references() {
        check("nginx", "docker.io/library/nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27");
        check("index.docker.io/nginx", "docker.io/library/nginx:latest");
        check("user/app", "docker.io/user/app:latest");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/a/b:v1", "localhost:5000/a/b:v1");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check("ghcr.io/o/a-b__c.d:V1.2_x-y", "ghcr.io/o/a-b__c.d:V1.2_x-y");
        check(&format!("nginx@sha256:{HEX}"), &format!("docker.io/library/nginx@sha256:{HEX}"));
        check(&format!("nginx:1@sha256:{HEX}"), &format!("docker.io/library/nginx:1@sha256:{HEX}"));
    }

    #[test]
    fn wrong_names_say_what_runtimes_say() {
        check("", "repository name must have at least one component");
        check("Nginx", "invalid reference format: repository name (Nginx) must be lowercase");
        check("user/App:1", "invalid reference format: repository name (user/App) must be lowercase");
        check(HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"));
        for wrong in
            ["nginx:", "nginx:-x", "a//b", "/a", "a/", "a b", "a..b", "a___b", "-a", "a-", "nginx@", "nginx@sha256"]
        {
            check(wrong, "invalid reference format");
        }
        check("host.example:99999/a", "invalid reference format");
        check("ho_st.example/a", "invalid reference format");
        check("a@sha256:12", "invalid checksum digest length");
        check("a@md5:12", "unsupported digest algorithm");
        check(&"a".repeat(256), "repository name must not be more than 255 characters");
        check(&format!("a:{}", "t".repeat(129)), "invalid reference format");
    }

    #[test]
    fn the_familiar_form_leaves_out_what_is_understood() {
        let familiar = |text: &str| text.parse::<Reference>().expect(text).familiar();
        assert_eq!(familiar("nginx"), "nginx:latest");
        assert_eq!(familiar("docker.io/user/app:1"), "user/app:1");
        assert_eq!(familiar("ghcr.io/library/app:1"), "ghcr.io/library/app:1");
    }
}
