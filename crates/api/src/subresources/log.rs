//! `pods/log`: checked here, read by whoever keeps the logs.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use sluice_schema::Fault;

use super::pod::container;
use crate::body::Body;
use crate::call::Call;
use crate::logs::{LogError, LogOptions};
use crate::object::Object;
use crate::refusal::{Named, Refusal};
use crate::request::Query;

pub(super) async fn log(call: &Call) -> Result<Response<Body>, Refusal> {
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let pod = entry.value();
    let mut options = parse(&call.query, call.name())?;
    options.container = container(&pod, call.query.text("container"), |pod| Some(default_container(pod)))?;
    let (Some(logs), false) = (&call.server.inner.logs, pod.text("/spec/nodeName").is_empty()) else {
        return Ok(nothing());
    };
    let stream = logs.open(&pod, options).await.map_err(|error| match error {
        LogError::BadRequest(message) => Refusal::BadRequest(message),
        LogError::NotFound(message) => {
            tracing::debug!(message, "Log not found");
            Refusal::NotFound(Named::core("pods", call.name()))
        }
        LogError::Internal(message) => Refusal::Internal(message),
    })?;
    let stopping = call.server.inner.stopping.clone();
    let stream = futures::StreamExt::take_until(stream, stopping.cancelled_owned());
    let mut response = Response::new(Body::chunks(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Pods without a node have no log, and that is no error.
fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The container that an annotation makes the default one.
fn default_container(pod: &Value) -> String {
    pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str().unwrap_or_default().to_owned()
}

fn parse(query: &Query, name: &str) -> Result<LogOptions, Refusal> {
    let mut faults = Vec::new();
    let mut number = |field: &str, least: i64| -> Result<Option<u64>, Refusal> {
        let Some(text) = query.get(field) else { return Ok(None) };
        let value: i64 =
            text.parse().map_err(|_| Refusal::bad(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if value < least {
            let detail = if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            faults.push(Fault::invalid(field, value, detail));
        }
        Ok(u64::try_from(value).ok())
    };
    let tail_lines = number("tailLines", 0)?;
    let limit_bytes = number("limitBytes", 1)?;
    let both = query.text("sinceTime").is_some() && query.get("sinceSeconds").is_some();
    let since_seconds = if both { None } else { number("sinceSeconds", 1)? };
    if both {
        faults.push(Fault::forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if !faults.is_empty() {
        return Err(Refusal::Invalid {
            group: String::new(),
            kind: "PodLogOptions".into(),
            name: name.to_owned(),
            faults,
        });
    }
    Ok(LogOptions {
        container: String::new(),
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines,
        limit_bytes,
        since_seconds,
        since_time: query.text("sinceTime").map(str::to_owned),
        stream: query.text("stream").unwrap_or_default().to_owned(),
    })
}
