//! One request's way: checked, routed, sent to a backend, answered.
//!
//! Another attempt is made only where it cannot do anything twice: the connection was never made, or not a byte of the request
//! was written, or the request is idempotent, has no body, and the connection died before any byte of an answer. The second
//! attempt uses a fresh connection, and another endpoint where the first could not be reached.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use sluice_route::{Filters, Rule};
use tokio::time::timeout;

use super::accept::Client;
use super::answer::{Reason, redirect, refuse};
use super::body::{AnswerBody, RequestBody};
use super::head::{self, Authority, HeaderView};
use super::pool::{Connection, Trust, connect};
use super::worker::{Passage, Pick, Picked, Wanted, Worker};
use super::{limits, mirror, tunnel};

pub(crate) async fn serve(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let started = Instant::now();
    let upgrade =
        head::wanted_upgrade(&request).map(|protocol| Upgrade { protocol, client: hyper::upgrade::on(&mut request) });
    let (head, body) = request.into_parts();
    let authority = match head::check(&head) {
        Ok(authority) => authority,
        Err(reason) => return Ok(refuse(reason)),
    };
    let replayable = head.method.is_idempotent() && body_is_empty(&body);
    let exchange = Exchange { worker, client, head, authority, upgrade, replayable, started };
    Ok(exchange.run(RequestBody::new(body)).await)
}

fn body_is_empty(body: &Incoming) -> bool {
    http_body::Body::is_end_stream(body)
}

/// A request with all that its attempts share.
struct Exchange {
    worker: Rc<Worker>,
    client: Rc<Client>,
    /// As the client sent it.
    head: request::Parts,
    authority: Authority,
    upgrade: Option<Upgrade>,
    /// It may be sent again although it may have been seen.
    replayable: bool,
    started: Instant,
}

struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// How an attempt ended.
enum Attempt {
    Answered(Response<AnswerBody>),
    /// May be made again with this body.
    Again {
        body: RequestBody,
        failed: Pick,
        reason: Reason,
        unreachable: bool,
    },
}

impl Exchange {
    async fn run(mut self, mut body: RequestBody) -> Response<AnswerBody> {
        let mut unreachable: Vec<SocketAddr> = Vec::new();
        let mut last: Option<(Pick, Reason)> = None;
        for attempt in 0..limits::ATTEMPTS {
            let mut pick = match self.pick(&unreachable, attempt == 0) {
                Ok(pick) => pick,
                Err(answer) => return *answer,
            };
            body = self.mirror(&mut pick, body);
            match self.attempt(pick, body, attempt > 0).await {
                Attempt::Answered(answer) => return answer,
                Attempt::Again { body: unsent, failed, reason, unreachable: is_unreachable } => {
                    if is_unreachable {
                        unreachable.push(failed.endpoint.address);
                    }
                    body = unsent;
                    last = Some((failed, reason));
                }
            }
        }
        let (mut pick, reason) = last.expect("there is at least one attempt");
        pick.flight.answer(reason.status().as_u16());
        refuse(reason)
    }

    fn pick(&self, tried: &[SocketAddr], first: bool) -> Result<Pick, Box<Response<AnswerBody>>> {
        let headers = HeaderView(&self.head.headers);
        let head = head::routed(&self.head, &self.authority.host, &headers);
        let (entrance, port, started) = (self.client.entrance, self.authority.port, self.started);
        // Of a connection that changes its protocol there is no copy.
        let mirrored = first && self.upgrade.is_none();
        match self.worker.pick(&Wanted { entrance, head, port, tried, mirrored, started }) {
            Picked::Forward(pick) => Ok(pick),
            Picked::Redirect { status, location } => Err(Box::new(redirect(status, &location))),
            Picked::Refuse(refusal) => Err(Box::new(refuse(Reason::Refused(refusal)))),
        }
    }

    async fn attempt(&mut self, pick: Pick, body: RequestBody, fresh: bool) -> Attempt {
        let trust = if self.replayable { Trust::Told } else { Trust::Asked };
        let pooled = if fresh { None } else { self.worker.pool.take(&pick.endpoint, trust) };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => Ok(connection),
            None => connect(pick.endpoint.address).await,
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(reason) => {
                pick.flight.connection_failed();
                return Attempt::Again { body, failed: pick, reason, unreachable: true };
            }
        };
        let Some(request) = self.request_for(&pick, body) else {
            return answered(pick, Reason::BadRequest("the rewritten path is not valid"));
        };
        match timeout(self.patience(&pick), connection.sender.try_send_request(request)).await {
            Err(_) => answered(pick, Reason::AnswerTimeout),
            Ok(Ok(response)) => Attempt::Answered(self.deliver(response, pick, connection)),
            Ok(Err(mut error)) => {
                // An old connection that turned out closed says nothing about its backend.
                if !reused {
                    pick.flight.connection_failed();
                }
                let lost = !error.error().is_parse() && !error.error().is_user();
                tracing::debug!(error = %error.error(), reused, "Backend connection died");
                let body = match error.take_message() {
                    Some(unsent) => unsent.into_body(),
                    None if self.replayable && lost => RequestBody::Empty,
                    None => return answered(pick, Reason::BackendClosed),
                };
                Attempt::Again { body, failed: pick, reason: Reason::BackendClosed, unreachable: !reused }
            }
        }
    }

    /// How long this attempt's answer may take.
    fn patience(&self, pick: &Pick) -> Duration {
        let timeouts = pick.rule.timeouts;
        let attempt = timeouts.backend.unwrap_or(limits::ANSWER);
        match timeouts.request {
            None => attempt,
            Some(whole) => whole.saturating_sub(self.started.elapsed()).min(attempt),
        }
    }

    /// What the backend is sent; `None` when a filter made the path invalid.
    fn request_for(&self, pick: &Pick, body: RequestBody) -> Option<Request<RequestBody>> {
        let mut head = self.head_for(&pick.rule, pick.filters.as_deref(), &pick.prefix)?;
        if let Some(Upgrade { protocol, .. }) = &self.upgrade {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol.clone());
        }
        Some(Request::from_parts(head, body))
    }

    /// The client's head after the filters of the rule, and of the backendRef if there are any.
    fn head_for(&self, rule: &Rule, own: Option<&Filters>, prefix: &str) -> Option<request::Parts> {
        let mut head = self.head.clone();
        head::forward(&mut head, &self.authority, &self.client.peer);
        let mut path = None;
        for filter in std::iter::once(&rule.filters).chain(own) {
            head::edit(&mut head.headers, &filter.request);
            if let Some(rewrite) = &filter.rewrite {
                path = rewrite.path(head.uri.path(), prefix).or(path);
                let host = rewrite.hostname.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
                host.map(|host| head.headers.insert(http::header::HOST, host));
            }
        }
        head.uri = head::origin_form(&head.uri, path)?;
        Some(head)
    }

    /// Sends the copies of this request off. A mirror gets what the rule makes of the request, Host included, with a mark and
    /// without what a single backendRef would change: it is to be compared with the backends. Any method is mirrored, for the
    /// route asks for it.
    fn mirror(&self, pick: &mut Pick, body: RequestBody) -> RequestBody {
        let copies = std::mem::take(&mut pick.copies);
        if copies.is_empty() {
            return body;
        }
        let Some(mut head) = self.head_for(&pick.rule, None, &pick.prefix) else { return body };
        if let Ok(route) = HeaderValue::from_str(&pick.route) {
            head.headers.insert(head::MIRROR, route);
        }
        let (body, kept) = body.kept();
        for copy in copies {
            mirror::send(copy, head.clone(), kept.clone());
        }
        body
    }

    fn deliver(
        &mut self,
        response: Response<Incoming>,
        mut pick: Pick,
        connection: Connection,
    ) -> Response<AnswerBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, pick);
        }
        let (mut head, body) = response.into_parts();
        head::strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        // What is left belongs to the connection to the backend.
        head.extensions.clear();
        head::edit(&mut head.headers, &pick.rule.filters.response);
        if let Some(filters) = &pick.filters {
            head::edit(&mut head.headers, &filters.response);
        }
        pick.flight.answer(head.status.as_u16());
        let passage = Passage { flight: pick.flight, endpoint: pick.endpoint, connection };
        Response::from_parts(head, AnswerBody::streamed(body, passage))
    }

    /// The backend changed the protocol: only if the client asked for it.
    fn switch(&mut self, mut response: Response<Incoming>, mut pick: Pick) -> Response<AnswerBody> {
        let Some(Upgrade { client, .. }) = self.upgrade.take() else {
            pick.flight.answer(Reason::BackendClosed.status().as_u16());
            return refuse(Reason::BackendClosed);
        };
        let backend = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(UPGRADE).cloned();
        let (mut head, _) = response.into_parts();
        head::strip_hop_by_hop(&mut head.headers);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        protocol.map(|protocol| head.headers.insert(UPGRADE, protocol));
        pick.flight.answer(head.status.as_u16());
        tunnel::spawn(client, backend, pick.flight);
        Response::from_parts(head, AnswerBody::Own(None))
    }
}

fn answered(mut pick: Pick, reason: Reason) -> Attempt {
    pick.flight.answer(reason.status().as_u16());
    Attempt::Answered(refuse(reason))
}
