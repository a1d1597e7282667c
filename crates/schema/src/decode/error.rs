//! Why a body cannot be read: always 400 `BadRequest`.

/// A real server's words around the cause differ by how far it came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No document, or one that does not say what it is.
    #[error("the object provided is unrecognized (must be of type {wanted}): {text} ({start})")]
    Unrecognized { wanted: String, text: String, start: String },
    /// A document whose content does not fit.
    #[error("{kind} in version {version:?} cannot be handled as a {wanted}: {text}")]
    Unhandled { kind: String, version: String, wanted: String, text: String },
    /// The right kind in another version than the path's.
    #[error("the API version in the data ({given}) does not match the expected API version ({wanted})")]
    OtherVersion { given: String, wanted: String },
    #[error("{0}")]
    Plain(String),
}

/// How much of a body its refusal shows.
const SHOWN_BYTES: usize = 30;

impl DecodeError {
    pub(super) fn plain(text: String) -> Self {
        Self::Plain(text)
    }

    pub(super) fn unrecognized(wanted: &str, body: &[u8], text: String) -> Self {
        Self::Unrecognized { wanted: wanted.to_owned(), text, start: start(body) }
    }

    /// The cause without the words around it, as bodies of deletions and patches are refused.
    pub fn cause(&self) -> String {
        match self {
            Self::Unrecognized { text, .. } | Self::Unhandled { text, .. } | Self::Plain(text) => text.clone(),
            Self::OtherVersion { .. } => self.to_string(),
        }
    }
}

/// The start of a body: as it is where it looks like JSON, else in hexadecimal.
fn start(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = &body[..body.len().min(SHOWN_BYTES)];
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    let mut text = match first {
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        _ => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    if body.len() > SHOWN_BYTES {
        text.push_str(" ...");
    }
    text
}
