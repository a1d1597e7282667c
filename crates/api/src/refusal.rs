//! Why a request is refused, and the `Status` that says so: every text is the one a real API server gives.

use serde_json::{Value, json};
use sluice_schema::{Fault, Kind, summary};

/// A resource and the object in it, as messages and `details` name them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Named {
    pub(crate) group: String,
    /// The plural, or for some refusals the kind.
    pub(crate) resource: String,
    pub(crate) name: String,
}

/// Every way a request can end other than well.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// A path that no part of the API knows: plain text.
    PageNotFound,
    /// A path below a known group that names nothing.
    NoSuchResource,
    MethodNotAllowed,
    /// A method that the path has, but this kind does not support.
    VerbNotSupported {
        verb: &'static str,
        group: String,
        resource: String,
    },
    NotFound(Named),
    AlreadyExists(Named),
    /// A create while the object of this name is being deleted.
    BeingDeleted(Named),
    Conflict {
        named: Named,
        why: String,
    },
    /// Server-side apply met fields of other managers: message and causes are composed there.
    ApplyConflict {
        message: String,
        causes: Vec<Value>,
    },
    Invalid {
        group: String,
        kind: String,
        name: String,
        faults: Vec<Fault>,
    },
    /// Like `Invalid`, where the real server gives only its generic sentence.
    Unprocessable,
    BadRequest(String),
    Unauthorized,
    Forbidden {
        named: Named,
        why: String,
        causes: Vec<Value>,
    },
    /// A request outside the resources, by somebody who may not make it.
    ForbiddenPath {
        user: String,
        verb: String,
        path: String,
    },
    NotAcceptable,
    /// The serializer's refusal of an `Accept` header, with its own sentence.
    NotNegotiable(String),
    UnsupportedMediaType,
    UnknownBodyFormat(&'static str),
    TooLarge(String),
    TooManyRequests {
        message: String,
        causes: Vec<Value>,
        /// When to ask again, if the answer is to say so.
        retry_seconds: u32,
    },
    Expired {
        message: String,
        fresh_continue: Option<String>,
    },
    /// The asked revision lies in the future.
    RevisionTooLarge {
        asked: u64,
        current: u64,
    },
    ServiceUnavailable(String),
    /// Faults of the caller that the real server reports as its own, without a reason.
    Unexplained(String),
    Internal(String),
}

impl Named {
    pub(crate) fn of(kind: &Kind, name: &str) -> Self {
        Self { group: kind.group.clone(), resource: kind.plural.clone(), name: name.to_owned() }
    }

    /// The kind instead of the plural, as precondition conflicts say it.
    pub(crate) fn by_kind(kind: &Kind, name: &str) -> Self {
        Self { group: kind.group.clone(), resource: kind.kind.clone(), name: name.to_owned() }
    }

    pub(crate) fn core(resource: &str, name: &str) -> Self {
        Self { group: String::new(), resource: resource.to_owned(), name: name.to_owned() }
    }

    fn qualified(&self) -> String {
        qualified(&self.resource, &self.group)
    }

    fn details(&self) -> Value {
        let mut details = json!({});
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.resource)] {
            if !value.is_empty() {
                details[key] = json!(value);
            }
        }
        details
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.qualified(), self.name)
    }
}

impl Refusal {
    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::NotFound(Named::of(kind, name))
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, faults: Vec<Fault>) -> Self {
        Self::Invalid { group: kind.group.clone(), kind: kind.kind.clone(), name: name.to_owned(), faults }
    }

    /// The write lost a race, or carried an old revision.
    pub(crate) fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::Conflict { named: Named::of(kind, name), why: why.into() }
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: impl Into<String>) -> Self {
        Self::Forbidden { named: Named::of(kind, name), why: why.into(), causes: vec![] }
    }

    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden { .. } | Self::ForbiddenPath { .. } => 403,
            Self::PageNotFound | Self::NoSuchResource | Self::NotFound(_) => 404,
            Self::MethodNotAllowed | Self::VerbNotSupported { .. } => 405,
            Self::NotAcceptable | Self::NotNegotiable(_) => 406,
            Self::AlreadyExists(_) | Self::BeingDeleted(_) | Self::Conflict { .. } | Self::ApplyConflict { .. } => 409,
            Self::Expired { .. } => 410,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType | Self::UnknownBodyFormat(_) => 415,
            Self::Invalid { .. } | Self::Unprocessable => 422,
            Self::TooManyRequests { .. } => 429,
            Self::Unexplained(_) | Self::Internal(_) => 500,
            Self::ServiceUnavailable(_) => 503,
            Self::RevisionTooLarge { .. } => 504,
        }
    }

    /// The published reason; empty where the real server gives none.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } | Self::ForbiddenPath { .. } => "Forbidden",
            Self::PageNotFound | Self::NoSuchResource | Self::NotFound(_) => "NotFound",
            Self::MethodNotAllowed | Self::VerbNotSupported { .. } => "MethodNotAllowed",
            Self::NotAcceptable | Self::NotNegotiable(_) => "NotAcceptable",
            Self::AlreadyExists(_) | Self::BeingDeleted(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Expired { .. } => "Expired",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::UnsupportedMediaType | Self::UnknownBodyFormat(_) => "UnsupportedMediaType",
            Self::Invalid { .. } | Self::Unprocessable => "Invalid",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Unexplained(_) => "",
            Self::Internal(_) => "InternalError",
            Self::ServiceUnavailable(_) => "ServiceUnavailable",
            Self::RevisionTooLarge { .. } => "Timeout",
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::PageNotFound => "404 page not found".into(),
            Self::NoSuchResource => "the server could not find the requested resource".into(),
            Self::MethodNotAllowed => "the server does not allow this method on the requested resource".into(),
            Self::VerbNotSupported { verb, group, resource } => {
                format!("{verb} is not supported on resources of kind \"{}\"", qualified(resource, group))
            }
            Self::NotFound(named) => format!("{named} not found"),
            Self::AlreadyExists(named) => format!("{named} already exists"),
            Self::BeingDeleted(named) => format!("object is being deleted: {named} already exists"),
            Self::Conflict { named, why } => format!("Operation cannot be fulfilled on {named}: {why}"),
            Self::Invalid { group, kind, name, faults } => {
                format!("{} {name:?} is invalid: {}", qualified(kind, group), summary(faults))
            }
            Self::Unprocessable => "the server rejected our request due to an error in our request".into(),
            Self::Unauthorized => "Unauthorized".into(),
            Self::Forbidden { named, why, .. } if named.name.is_empty() => {
                format!("{} is forbidden: {why}", named.qualified())
            }
            Self::Forbidden { named, why, .. } => format!("{named} is forbidden: {why}"),
            Self::ForbiddenPath { user, verb, path } => {
                format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"")
            }
            Self::NotAcceptable => {
                "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                                    application/vnd.kubernetes.protobuf"
                    .into()
            }
            Self::UnsupportedMediaType => "415: Unsupported Media Type".into(),
            Self::UnknownBodyFormat(accepted) => {
                format!("the body of the request was in an unknown format - accepted media types include: {accepted}")
            }
            Self::TooLarge(why) => format!("Request entity too large: {why}"),
            Self::RevisionTooLarge { asked, current } => {
                format!("Timeout: Too large resource version: {asked}, current: {current}")
            }
            Self::Internal(why) => format!("Internal error occurred: {why}"),
            Self::ApplyConflict { message, .. }
            | Self::BadRequest(message)
            | Self::NotNegotiable(message)
            | Self::TooManyRequests { message, .. }
            | Self::Expired { message, .. }
            | Self::ServiceUnavailable(message)
            | Self::Unexplained(message) => message.clone(),
        }
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::NotFound(named) | Self::AlreadyExists(named) | Self::BeingDeleted(named) => Some(named.details()),
            Self::Conflict { named, .. } => Some(named.details()),
            Self::Forbidden { named, causes, .. } => {
                let mut details = named.details();
                if !causes.is_empty() {
                    details["causes"] = json!(causes);
                }
                Some(details)
            }
            Self::Invalid { group, kind, name, faults } => {
                let named = Named { group: group.clone(), resource: kind.clone(), name: name.clone() };
                let mut details = named.details();
                if !faults.is_empty() {
                    details["causes"] = faults.iter().map(cause).collect();
                }
                Some(details)
            }
            Self::ApplyConflict { causes, .. } => Some(json!({"causes": causes})),
            Self::TooManyRequests { causes, retry_seconds, .. } => {
                let mut details = json!({});
                if !causes.is_empty() {
                    details["causes"] = json!(causes);
                }
                if *retry_seconds > 0 {
                    details["retryAfterSeconds"] = json!(retry_seconds);
                }
                Some(details)
            }
            Self::Internal(why) => Some(json!({"causes": [{"message": why}]})),
            Self::VerbNotSupported { group, resource, .. } => {
                Some(Named { group: group.clone(), resource: resource.clone(), name: String::new() }.details())
            }
            Self::NoSuchResource
            | Self::MethodNotAllowed
            | Self::Unprocessable
            | Self::NotAcceptable
            | Self::ForbiddenPath { .. }
            | Self::UnsupportedMediaType => Some(json!({})),
            Self::RevisionTooLarge { .. } => Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            Self::PageNotFound
            | Self::BadRequest(_)
            | Self::Unauthorized
            | Self::NotNegotiable(_)
            | Self::UnknownBodyFormat(_)
            | Self::TooLarge(_)
            | Self::Expired { .. }
            | Self::ServiceUnavailable(_)
            | Self::Unexplained(_) => None,
        }
    }

    /// The `Status` object of this refusal.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message(), "code": self.code(),
        });
        if !self.reason().is_empty() {
            status["reason"] = json!(self.reason());
        }
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        if let Self::Expired { fresh_continue: Some(token), .. } = self {
            status["metadata"]["continue"] = json!(token);
        }
        status
    }
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn cause(fault: &Fault) -> Value {
    json!({"reason": fault.kind.reason(), "message": fault.message(), "field": fault.field()})
}
