//! Copies of requests on their way to mirrors. Whatever becomes of a copy, the request that it was made of does not notice.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, request};
use http_body_util::BodyExt as _;
use sluice_route::{CopyOf, Endpoint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::{Kept, RequestBody};
use super::meter::Meter;
use super::pool::Trust;
use super::trust::Secure;
use super::worker::Presence;
use super::{head, limits};

/// Where a copy goes; it counts as in flight from here on.
pub(crate) struct Copy {
    pub(crate) endpoint: Endpoint,
    pub(crate) of: CopyOf,
    pub(crate) secure: Option<Rc<Secure>>,
    pub(crate) presence: Presence,
    pub(crate) meter: Arc<Meter>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What became of a copy.
enum Outcome {
    Answered,
    /// Never sent: the body could not be kept.
    Dropped,
    Failed,
}

/// Sends this head with the kept body, as soon as it is whole. The answer is thrown away.
pub(crate) fn send(copy: Copy, head: request::Parts, body: Rc<Kept>) {
    tokio::task::spawn_local(async move {
        let delivered = timeout(limits::MIRROR, deliver(&copy, head, &body)).await;
        match delivered.unwrap_or(Outcome::Failed) {
            Outcome::Answered => copy.meter.mirrored(),
            Outcome::Dropped => copy.meter.mirror_dropped(),
            Outcome::Failed => copy.meter.mirror_failed(),
        }
        drop(copy.permit);
    });
}

async fn deliver(copy: &Copy, head: request::Parts, body: &Kept) -> Outcome {
    let Some(body) = body.settled().await else { return Outcome::Dropped };
    let worker = copy.presence.worker();
    let pooled = worker.pool.take(&copy.endpoint, copy.secure.as_deref(), Trust::Asked);
    let connection = match pooled {
        Some(connection) => Ok(connection),
        None => worker.pool.connect(&copy.endpoint, copy.secure.as_deref(), limits::CONNECT).await,
    };
    let Ok(mut connection) = connection else { return Outcome::Failed };
    let request = Request::from_parts(head::spoken(head, copy.endpoint.protocol), RequestBody::whole(body));
    let Ok(mut answer) = connection.send(request).await else { return Outcome::Failed };
    while let Some(frame) = answer.body_mut().frame().await {
        if frame.is_err() {
            return Outcome::Failed;
        }
    }
    worker.give_back(connection);
    Outcome::Answered
}
