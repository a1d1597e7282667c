//! Why a pass failed. Every pass is tried again, so the error says mostly how loud to be about it.

use std::time::Duration;

/// Why a controller could not finish a pass over an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the API refused")]
    Api(#[source] Box<kube::Error>),
    /// The object changed while it was decided upon; the next pass sees the change.
    #[error("{what} changed meanwhile")]
    Stale { what: &'static str },
    #[error("an own write did not show up within {}s", waited.as_secs())]
    Unseen { waited: Duration },
    #[error("the pass panicked")]
    Panicked,
    /// Some of several acts failed; the first of them.
    #[error("{message}")]
    Partial { message: String },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match status_code(&error) {
            Some(409) => Self::Stale { what: "the object" },
            Some(404) => Self::Stale { what: "an object that is gone" },
            _ => Self::Api(Box::new(error)),
        }
    }
}

impl Error {
    /// Part of the ordinary course of things, or told to the user by an event.
    pub(crate) fn is_ordinary(&self) -> bool {
        matches!(self, Self::Stale { .. } | Self::Partial { .. })
    }
}

impl Error {
    /// What the API said, when it was the API.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Api(error) => message(error),
            _ => String::new(),
        }
    }
}

pub(crate) fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The message of the API's answer, as users know it.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether an answer carries this cause.
pub(crate) fn has_cause(error: &kube::Error, reason: &str) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == reason)
}
