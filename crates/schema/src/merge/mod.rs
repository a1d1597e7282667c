//! The three kinds of patches that are not apply: JSON merge patch, JSON patch, strategic merge patch.
//!
//! All work on plain JSON, in place; on an error the target may be half changed, so callers patch a copy. What the
//! patched object means (types, defaults, validation) is decided afterwards, as for any other write.

mod go;
mod json_merge;
mod json_patch;
mod strategic;
#[cfg(test)]
pub(crate) mod tests;
mod unstructured;

pub use go::{go_json_type, go_print};
pub(crate) use go::{go_syntax, go_type};
pub use json_merge::json_merge;
pub use json_patch::{MAX_COPIED_BYTES, MAX_OPERATIONS, json_patch, json_patch_notices};
pub use strategic::strategic;
pub use unstructured::unstructured_fault;

/// Why a patch cannot be applied. The variant decides the status of the answer, the text is its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// 422 `Invalid` with an empty `details`; a real server keeps its reason to itself.
    #[error("the server rejected our request due to an error in our request")]
    Rejected { why: String },
    /// 413 `RequestEntityTooLarge`.
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    /// 500 with the message alone and no reason.
    #[error("{0}")]
    Internal(String),
}

impl PatchError {
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Rejected { .. } => 422,
            Self::TooLarge(_) => 413,
            Self::Internal(_) => 500,
        }
    }

    /// `Status.reason`; nothing for a 500.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::BadRequest(_) => Some("BadRequest"),
            Self::Rejected { .. } => Some("Invalid"),
            Self::TooLarge(_) => Some("RequestEntityTooLarge"),
            Self::Internal(_) => None,
        }
    }
}
