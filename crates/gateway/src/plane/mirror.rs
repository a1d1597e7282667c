//! Copies of requests on their way to mirrors. Whatever becomes of a copy, the request that it was made of does not notice.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sluice_route::Endpoint;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{Kept, RequestBody};
use super::meter::Meter;
use super::pool::{Connection, Trust};
use super::trial::{Capture, Part};
use super::trust::Secure;
use super::worker::Presence;
use super::{head, limits};

/// Where a copy goes; it counts as in flight from here on.
pub(crate) struct Copy {
    pub(crate) endpoint: Endpoint,
    /// Whether it is what the backend gets, its own filters included, or what the rule alone makes of the request.
    pub(crate) is_of_backend: bool,
    pub(crate) secure: Option<Rc<Secure>>,
    pub(crate) presence: Presence,
    pub(crate) meter: Arc<Meter>,
    pub(crate) permit: OwnedSemaphorePermit,
    /// Where its answer is to be compared.
    pub(crate) part: Option<Part>,
}

/// What became of a copy.
enum Outcome {
    Answered,
    /// Never sent: the body could not be kept.
    Dropped,
    Failed,
}

/// Sends this head with the kept body, as soon as it is whole. The answer is thrown away, unless it is to be compared.
pub(crate) fn send(mut copy: Copy, head: request::Parts, body: Rc<Kept>) {
    tokio::task::spawn_local(async move {
        let part = copy.part.take();
        let again = part.as_ref().map(|part| part.also(part.role()));
        let delivered = timeout(limits::MIRROR, deliver(&copy, part, head, &body)).await;
        match delivered.unwrap_or(Outcome::Failed) {
            Outcome::Answered => copy.meter.mirrored(),
            Outcome::Dropped => copy.meter.mirror_dropped(),
            Outcome::Failed => {
                copy.meter.mirror_failed();
                again.map(Part::silent).unwrap_or_default();
            }
        }
        drop(copy.permit);
    });
}

async fn deliver(copy: &Copy, part: Option<Part>, head: request::Parts, body: &Kept) -> Outcome {
    let Some(body) = body.settled().await else { return Outcome::Dropped };
    let Some((mut answer, connection)) = ask(copy, &head, &body).await else { return Outcome::Failed };
    let mut capture = part.and_then(|part| part.begin(answer.status(), answer.headers()));
    while let Some(frame) = answer.body_mut().frame().await {
        let Ok(frame) = frame else { return Outcome::Failed };
        if let (Some(taken), Some(data)) = (&mut capture, frame.data_ref())
            && !taken.push(data)
        {
            capture = None;
        }
    }
    capture.map(Capture::finish).unwrap_or_default();
    copy.presence.worker().give_back(connection);
    Outcome::Answered
}

/// Once more on a fresh connection where an old one turned out closed: that says nothing about the version.
async fn ask(copy: &Copy, head: &request::Parts, body: &Bytes) -> Option<(Response<Incoming>, Connection)> {
    let pool = &copy.presence.worker().pool;
    let request =
        || Request::from_parts(head::spoken(head.clone(), copy.endpoint.protocol), RequestBody::whole(body.clone()));
    if let Some(mut connection) = pool.take(&copy.endpoint, copy.secure.as_deref(), Trust::Asked) {
        match connection.send(request()).await {
            Ok(answer) => return Some((answer, connection)),
            Err(error) if error.message().is_none() && !head.method.is_idempotent() => return None,
            Err(_) => {}
        }
    }
    let mut connection = pool.connect(&copy.endpoint, copy.secure.as_deref(), limits::CONNECT).await.ok()?;
    connection.send(request()).await.ok().map(|answer| (answer, connection))
}
