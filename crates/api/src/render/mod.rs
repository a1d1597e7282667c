//! Answers: objects, lists, tables and events in the representation that the caller takes.

mod event;
mod shape;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use sluice_store::Entry;

pub(crate) use event::{Frames, error_frame};

use crate::body::Body;
use crate::call::Call;
use crate::object::prefix;
use crate::refusal::Refusal;
use crate::request::{Encoding, Shape};
use crate::verbs::{Found, glue};
use crate::versions;

/// A stored object.
pub(crate) fn entry(call: &Call, code: StatusCode, entry: &Entry) -> Result<Response<Body>, Refusal> {
    let as_stored = call.accept.shape == Shape::Object && call.accept.encoding == Encoding::Json;
    if as_stored && versions::is_stored(call.kind(), entry) {
        return Ok(json_bytes(code, entry.bytes.clone()));
    }
    object(call, code, versions::view(call.kind(), entry.to_value()))
}

/// An object that was just made.
pub(crate) fn object(call: &Call, code: StatusCode, object: Value) -> Result<Response<Body>, Refusal> {
    check_object(call)?;
    let shown = match &call.accept.shape {
        Shape::Table(version) => shape::table(call, version, std::slice::from_ref(&object), &object["metadata"])?,
        Shape::Partial(version) => shape::partial(&object, version),
        _ => object,
    };
    Ok(value(call.accept.encoding, code, &shown))
}

/// A list, or what a deletion of a collection deleted.
pub(crate) fn list(call: &Call, code: StatusCode, found: &Found) -> Result<Response<Body>, Refusal> {
    check_list(call)?;
    let kind = call.kind();
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if let Some(next) = &found.next {
        metadata["continue"] = json!(next.encode());
    } else if kind.custom.is_some() && !matches!(call.accept.shape, Shape::Table(_) | Shape::PartialList(_)) {
        metadata["continue"] = json!("");
    }
    if let Some(remaining) = found.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    if call.accept.shape == Shape::Object && call.accept.encoding == Encoding::Json {
        return Ok(json_bytes(code, plain_list(call, found, &metadata)));
    }
    let items = found.entries.iter().map(|entry| versions::view(kind, entry.to_value()));
    let shown = match &call.accept.shape {
        Shape::Table(version) => shape::table(call, version, &items.collect::<Vec<_>>(), &metadata)?,
        Shape::PartialList(version) => {
            let items: Vec<Value> = items.map(|item| shape::partial(&item, version)).collect();
            let items = if items.is_empty() { Value::Null } else { json!(items) };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                   "metadata": metadata, "items": items})
        }
        _ => json!({"kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata,
                    "items": items.map(|item| bare(kind.custom.is_some(), item)).collect::<Vec<_>>()}),
    };
    Ok(value(call.accept.encoding, code, &shown))
}

/// A list as JSON: stored bytes as they are, wherever they are in the version asked for.
fn plain_list(call: &Call, found: &Found, metadata: &Value) -> Vec<u8> {
    let kind = call.kind();
    let mut out =
        format!("{}\"metadata\":{metadata},\"items\":", prefix(&kind.list_kind, &kind.api_version())).into_bytes();
    if found.entries.iter().all(|entry| versions::is_stored(kind, entry)) {
        let strip = if kind.custom.is_some() { String::new() } else { prefix(&kind.kind, &kind.api_version()) };
        glue(&mut out, &found.entries, &strip);
    } else {
        let views = found.entries.iter().map(|entry| versions::view(kind, entry.to_value()));
        let items: Vec<Value> = views.map(|item| bare(kind.custom.is_some(), item)).collect();
        serde_json::to_writer(&mut out, &items).expect("JSON values always serialise");
    }
    out.push(b'}');
    out
}

/// Items of built-in lists go without their kind.
fn bare(custom: bool, mut item: Value) -> Value {
    if let (Some(fields), false) = (item.as_object_mut(), custom) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

/// `Status` of a success, with these details.
pub(crate) fn success(call: &Call, code: StatusCode, details: Value) -> Response<Body> {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if !details.is_null() {
        status["details"] = details;
    }
    value(call.accept.encoding, code, &status)
}

pub(crate) fn refusal(refusal: &Refusal, encoding: Encoding) -> Response<Body> {
    if matches!(refusal, Refusal::PageNotFound) {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let code = StatusCode::from_u16(refusal.code()).expect("every refusal has a valid code");
    let mut response = value(encoding, code, &refusal.status());
    let retry_seconds = match refusal {
        Refusal::TooManyRequests { retry_seconds, .. } => Some((*retry_seconds).max(1)),
        Refusal::RevisionTooLarge { .. } => Some(1),
        _ => None,
    };
    if let Some(seconds) = retry_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn value(encoding: Encoding, code: StatusCode, value: &Value) -> Response<Body> {
    match encoding {
        Encoding::Json => json_bytes(code, serde_json::to_vec(value).expect("JSON values always serialise")),
        Encoding::Yaml => {
            let text = serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string());
            answer(code, "application/yaml", text)
        }
    }
}

pub(crate) fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    answer(code, "application/json", bytes)
}

pub(crate) fn plain(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", text.into())
}

pub(crate) fn answer(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Adds what the caller should know, as the real server words it.
pub(crate) fn with_warnings(mut response: Response<Body>, notices: Vec<String>) -> Response<Body> {
    for notice in notices {
        let quoted = notice.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, header);
        }
    }
    response
}

/// Refuses representations that only lists have.
pub(crate) fn check_object(call: &Call) -> Result<(), Refusal> {
    match &call.accept.shape {
        Shape::PartialList(_) => {
            Err(misshapen("PartialObjectMetadataList", "is not a list", &go_type(call, &call.kind().kind)))
        }
        Shape::Table(_) => shape::include(call).map(drop),
        _ => Ok(()),
    }
}

/// Refuses representations that only single objects have.
pub(crate) fn check_list(call: &Call) -> Result<(), Refusal> {
    match &call.accept.shape {
        Shape::Partial(_) => {
            Err(misshapen("PartialObjectMetadata", "is a list", &go_type(call, &call.kind().list_kind)))
        }
        Shape::Table(_) => shape::include(call).map(drop),
        _ => Ok(()),
    }
}

fn misshapen(asked: &str, is: &str, go_type: &str) -> Refusal {
    Refusal::NotNegotiable(format!("you requested {asked}, but the requested object {is} ({go_type})"))
}

/// The name of the Go type that the real server prints here.
fn go_type(call: &Call, kind: &str) -> String {
    let group = call.kind().group.split('.').next().unwrap_or_default();
    match (group, call.kind().custom.is_some()) {
        (_, true) => "*unstructured.Unstructured".into(),
        ("", _) => format!("*core.{kind}"),
        (group, _) => format!("*{group}.{kind}"),
    }
}
