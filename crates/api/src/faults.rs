//! Faults in the words of `Status.details.causes`, and short ways to make them.

use serde_json::Value;
use sluice_schema::{Fault, FaultKind};

pub(crate) fn fault(path: &str, kind: FaultKind, value: Option<Value>, detail: impl Into<String>) -> Fault {
    Fault { path: path.to_owned(), kind, value, detail: detail.into() }
}

pub(crate) fn forbidden(path: &str, detail: impl Into<String>) -> Fault {
    fault(path, FaultKind::Forbidden, None, detail)
}

pub(crate) fn invalid(path: &str, value: impl Into<Value>, detail: impl Into<String>) -> Fault {
    fault(path, FaultKind::Invalid, Some(value.into()), detail)
}

pub(crate) fn required(path: &str, detail: impl Into<String>) -> Fault {
    fault(path, FaultKind::Required, None, detail)
}

/// A value outside a closed set; `supported` is printed in the order given.
pub(crate) fn unsupported(path: &str, value: impl Into<Value>, supported: &[&str]) -> Fault {
    let quoted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    fault(path, FaultKind::NotSupported, Some(value.into()), format!("supported values: {}", quoted.join(", ")))
}

/// The path, or what Go prints for the lack of one.
pub(crate) fn field(fault: &Fault) -> &str {
    if fault.path.is_empty() { "<nil>" } else { &fault.path }
}

/// The message of one cause.
pub(crate) fn message(fault: &Fault) -> String {
    let title = match fault.kind {
        FaultKind::NotFound => "Not found",
        FaultKind::Required => "Required value",
        FaultKind::Duplicate => "Duplicate value",
        FaultKind::Invalid | FaultKind::TypeInvalid => "Invalid value",
        FaultKind::NotSupported => "Unsupported value",
        FaultKind::Forbidden => "Forbidden",
        FaultKind::TooLong => "Too long",
        FaultKind::TooMany => "Too many",
        FaultKind::Internal => "Internal error",
    };
    let bare =
        matches!(fault.kind, FaultKind::Required | FaultKind::Forbidden | FaultKind::TooLong | FaultKind::Internal);
    let mut text = title.to_owned();
    if let (Some(value), false) = (&fault.value, bare) {
        text.push_str(": ");
        text.push_str(&value.to_string());
    }
    if !fault.detail.is_empty() {
        text.push_str(": ");
        text.push_str(&fault.detail);
    }
    text
}
