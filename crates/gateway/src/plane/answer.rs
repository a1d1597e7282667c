//! Answers that the gateway gives itself, each with a reason for operators in `x-sluice-reason`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use sluice_route::Refusal;
use sluice_route::cors::AnswerHeaders;

use super::body::AnswerBody;
use super::framing::Fault;
use super::{head, limits};

const REASON: HeaderName = HeaderName::from_static("x-sluice-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why the gateway answers in place of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The request's head is not one that can be passed on safely.
    BadRequest(&'static str),
    UriTooLong,
    HeadTooLarge,
    HeadTimeout,
    BodyTimeout,
    /// CONNECT is not for a gateway.
    Connect,
    ExpectationFailed,
    Refused(Refusal),
    /// No connection to any backend could be made.
    ConnectFailed,
    /// The backend's TLS is not as its policy wants it.
    BackendTls,
    /// Making a connection took too long.
    ConnectTimeout,
    /// The connection broke before an answer, and asking again might have done it twice.
    BackendClosed,
    /// The backend's answer did not come in time.
    AnswerTimeout,
    /// A preflight of an origin that the route does not name.
    Origin,
    /// The version gives no answers, and is asked only now and then whether it does.
    CircuitOpen,
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(why) => Self::BadRequest(why),
            Fault::TargetTooLong => Self::UriTooLong,
            Fault::HeadTooLarge => Self::HeadTooLarge,
            Fault::HeadTooSlow => Self::HeadTimeout,
        }
    }
}

impl Reason {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Origin => StatusCode::FORBIDDEN,
            Self::CircuitOpen => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Connect => StatusCode::NOT_IMPLEMENTED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::Refused(refusal) => {
                StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::ConnectFailed | Self::BackendTls | Self::BackendClosed => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::UriTooLong => "uri-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::Connect => "connect-refused",
            Self::ExpectationFailed => "unknown-expectation",
            Self::Refused(refusal) => refusal.reason(),
            Self::ConnectFailed => "connect-failed",
            Self::BackendTls => "backend-tls",
            Self::ConnectTimeout => "connect-timeout",
            Self::BackendClosed => "backend-closed",
            Self::AnswerTimeout => "answer-timeout",
            Self::Origin => "origin-not-allowed",
            Self::CircuitOpen => "circuit-open",
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BadRequest(why) => why,
            Self::UriTooLong => "the request target is too long",
            Self::HeadTooLarge => "the request's head is too large",
            Self::HeadTimeout => "the request's head did not come in time",
            Self::BodyTimeout => "the request's body did not come in time",
            Self::Connect => "this gateway does not serve CONNECT",
            Self::ExpectationFailed => "the only expectation understood is 100-continue",
            Self::Refused(Refusal::NoRoute) => "no route matches this request",
            Self::Refused(Refusal::Misdirected) => "the connection is one of another listener than the request's host",
            Self::Refused(Refusal::NoBackend) => "the route names no backend for this request",
            Self::Refused(Refusal::InvalidBackend) => "the route's backend does not exist or may not be used",
            Self::Refused(Refusal::UnusableRule) => "the route's rule uses something that is not supported",
            Self::Refused(Refusal::UntrustedBackend) => "the policy for TLS with the backend cannot be met",
            Self::Refused(Refusal::Forbidden) => "the route is not for clients of this address",
            Self::Refused(Refusal::NoEndpoints) => "no endpoint of the backend is ready",
            Self::ConnectFailed => "no connection to the backend could be made",
            Self::BackendTls => "the backend could not prove by TLS who it is",
            Self::ConnectTimeout => "connecting to the backend took too long",
            Self::BackendClosed => "the backend closed the connection before it answered",
            Self::AnswerTimeout => "the backend did not answer in time",
            Self::CircuitOpen => "the backend gives no answers, and is asked only now and then",
            Self::Origin => "the route does not allow requests of pages from this origin",
        }
    }
}

pub(crate) fn refuse(reason: Reason) -> Response<AnswerBody> {
    let body = format!("{{\"reason\":\"{}\",\"message\":\"{}\"}}\n", reason.word(), reason.text());
    let mut response = Response::new(AnswerBody::Own(Some(Bytes::from(body))));
    *response.status_mut() = reason.status();
    response.extensions_mut().insert(reason);
    response.headers_mut().insert(REASON, HeaderValue::from_static(reason.word()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if reason == Reason::CircuitOpen {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER));
    }
    response
}

/// Why the gateway gave this answer itself.
pub(crate) fn reason_of(answer: &Response<AnswerBody>) -> Option<Reason> {
    answer.extensions().get().copied()
}

/// A refusal for somebody who speaks gRPC, and looks at the status of that alone: it stands in the head, where no message comes.
pub(crate) fn refuse_call(reason: Reason) -> Response<AnswerBody> {
    let mut response = refuse(reason);
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = AnswerBody::Own(None);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(head::GRPC));
    headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(reason.status())));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(reason.text()));
    response
}

/// As the mapping of statuses that gRPC publishes.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// What a preflight is answered.
pub(crate) fn preflight(granted: Option<AnswerHeaders>) -> Response<AnswerBody> {
    let Some(granted) = granted else { return refuse(Reason::Origin) };
    let mut response = Response::new(AnswerBody::Own(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    head::put(response.headers_mut(), granted);
    response
}

pub(crate) fn redirect(status: u16, location: &str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Own(None));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    match HeaderValue::from_str(location) {
        Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
        Err(_) => return refuse(Reason::BadRequest("the path cannot be part of a redirect")),
    }
    response
}
