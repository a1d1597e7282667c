//! What is wrong with a field, in the words of a real API server.

use serde_json::Value;

/// One fault of validation: becomes one entry of `Status.details.causes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// `spec.template.spec.containers[0].image`; empty for the whole object.
    pub path: String,
    pub kind: FaultKind,
    /// The value found, where the message prints it.
    pub value: Option<Value>,
    pub detail: String,
}

/// The reasons of causes; [`FaultKind::reason`] gives the published spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FaultKind {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}
