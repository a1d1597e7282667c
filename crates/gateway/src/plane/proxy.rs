//! One request's way: checked, routed, sent to a backend, answered.
//!
//! Another attempt is made by itself only where it cannot do anything twice: the connection was never made, or not a byte of
//! the request was written, or the request is idempotent, its body is there once more, and the connection died before any byte of
//! an answer. The second attempt uses a fresh connection, and another endpoint where the first could not be reached.
//!
//! A route can ask for more. A status code that it names is retried for any method: the backend has answered, and whoever wrote
//! the route says that this answer is worth another question. An attempt that ran out of its time has said nothing, so only
//! idempotent requests are sent once more. Either way the body must have been small enough to keep, and the worker's budget must
//! allow it; if not, the client gets the answer there is. Each attempt counts for the version that it went to: an error that a
//! retry hides from the client is still an error of its version.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue, ORIGIN, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Version, request};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use sluice_route::{Filters, Protocol, Retry, Rule, Timeouts};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout, timeout_at};

use super::accept::Client;
use super::access_log::Entry;
use super::answer::{Reason, preflight, reason_of, redirect, refuse, refuse_call};
use super::body::{AnswerBody, ClientBody, Interrupted, Kept, Pace, RequestBody};
use super::head::{self, Authority, HeaderView};
use super::identity::{Identity, REQUEST_ID};
use super::patience::{Fate, UnderWay};
use super::pool::{Connection, Trust};
use super::trial::Part;
use super::worker::{Passage, Pick, Picked, Wanted, Worker};
use super::{Manners, forwarding, guard, limits, mirror, tunnel};

pub(crate) async fn serve(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ClientBody>, Infallible> {
    let under_way = client.watch.enter();
    let body_under_way = (!request.body().is_end_stream()).then(|| client.watch.enter());
    client.speaks_http2.set(request.version() == Version::HTTP_2);
    let asks = request.headers().contains_key(UPGRADE);
    let mut answer = answer(worker, client.clone(), request, body_under_way).await;
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if asks {
        client.watch.decide(if switched { Fate::Tunnel } else { Fate::Same });
    }
    if client.place.is_leaving() && !switched && !client.speaks_http2.get() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer.map(|body| ClientBody::new(body, under_way)))
}

async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
    body_under_way: Option<UnderWay>,
) -> Response<AnswerBody> {
    let started = Instant::now();
    let upgrade =
        head::wanted_upgrade(&request).map(|protocol| Upgrade { protocol, client: hyper::upgrade::on(&mut request) });
    let (head, body) = request.into_parts();
    let identity = Identity::of(&head.headers, client.peer.trusted, || worker.next_random());
    let mut entry = entry(&worker, &client, &head, &identity);
    if let Some(fault) = guard::refused(&head, &client.watch) {
        entry.iter_mut().for_each(|entry| entry.was_not_understood());
        return settled(refuse(fault.into()), false, entry, identity, &worker);
    }
    let is_call = head::is_call(&head.headers);
    let authority = match head::check(&head) {
        Ok(authority) => authority,
        Err(reason) => {
            let mut answer = settled(refuse(reason), is_call, entry, identity, &worker);
            // Who sends such a head may mean something else by what follows.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
    };
    if let Some(entry) = &mut entry {
        entry.asked_for(&authority.host);
    }
    worker.budget.deposit();
    let (body, pace, store) = if body.is_end_stream() {
        (RequestBody::Empty, None, Store::Empty)
    } else {
        let pace = worker.patience.pace();
        // A call of gRPC is a conversation, whose parts come when there is something to say.
        pace.set_free(is_call);
        (RequestBody::streamed(body, pace.clone(), body_under_way), Some(pace), Store::Gone)
    };
    let mut exchange = Exchange {
        worker,
        client,
        head,
        authority,
        identity,
        is_call,
        entry,
        upgrade,
        pace,
        store,
        part: None,
        retries: 0,
        started,
    };
    let answer = exchange.conduct(body).await;
    let Exchange { worker, identity, is_call, entry, .. } = exchange;
    settled(answer, is_call, entry, identity, &worker)
}

fn entry(worker: &Worker, client: &Client, head: &request::Parts, identity: &Identity) -> Option<Box<Entry>> {
    let Manners { trusted, log, .. } = worker.manners();
    log.as_ref().map(|log| {
        let origin = forwarding::origin(&head.headers, &client.peer, trusted);
        Box::new(Entry::new(log, head, origin, identity.id.to_str().unwrap_or_default()))
    })
}

/// Writes an answer down that nobody has taken the entry for. One of our own names the request.
fn settled(
    mut answer: Response<AnswerBody>,
    is_call: bool,
    entry: Option<Box<Entry>>,
    identity: Identity,
    worker: &Worker,
) -> Response<AnswerBody> {
    let reason = reason_of(&answer);
    if let Some(mut entry) = entry {
        entry.answered(answer.status().as_u16(), reason.map(Reason::word));
        entry.sent(usize::try_from(answer.body().size_hint().lower()).unwrap_or(usize::MAX));
    }
    if let Some(reason) = reason {
        worker.refused(reason.word());
        if is_call {
            answer = refuse_call(reason);
        }
        answer.headers_mut().insert(REQUEST_ID, identity.id);
    }
    answer
}

/// A request with all that its attempts share.
struct Exchange {
    worker: Rc<Worker>,
    client: Rc<Client>,
    /// As the client sent it.
    head: request::Parts,
    authority: Authority,
    identity: Identity,
    /// Of gRPC.
    is_call: bool,
    /// What the log will say of it, until an answer takes that over.
    entry: Option<Box<Entry>>,
    upgrade: Option<Upgrade>,
    /// Of the request's body.
    pace: Option<Rc<Pace>>,
    store: Store,
    /// Where the answer is compared with those to copies.
    part: Option<Part>,
    /// Further attempts that the route asked for.
    retries: u32,
    started: Instant,
}

/// Where the body for another attempt comes from.
enum Store {
    Empty,
    Kept { body: Rc<Kept>, _room: OwnedSemaphorePermit },
    Gone,
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
    /// Is to be made again, for the route says so.
    Retry {
        body: RequestBody,
        failed: SocketAddr,
        delay: Duration,
    },
}

/// What a route may want to try again.
enum Failure {
    Status(u16),
    Timeout,
}

impl Exchange {
    async fn conduct(&mut self, mut body: RequestBody) -> Response<AnswerBody> {
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut failures = 0;
        loop {
            let first = failures == 0 && self.retries == 0;
            let mut pick = match self.pick(&tried, first) {
                Ok(pick) => pick,
                Err(answer) => return *answer,
            };
            if first {
                body = self.keep(&pick, body);
                body = self.mirror(&mut pick, body);
                self.part = pick.part.take();
            }
            match self.attempt(pick, body, !first).await {
                Attempt::Answered(answer) => return answer,
                Attempt::Again { body: unsent, failed, reason, unreachable } => {
                    failures += 1;
                    if failures == limits::ATTEMPTS {
                        return self.in_place(failed, reason);
                    }
                    tried.extend(unreachable.then_some(failed.endpoint.address));
                    body = unsent;
                }
                Attempt::Retry { body: again, failed, delay } => {
                    self.retries += 1;
                    tried.push(failed);
                    body = again;
                    sleep(delay).await;
                }
            }
        }
    }

    /// Keeps the body where it may be wanted once more: the route says so, or sending it again does nothing twice. On HTTP/2
    /// that is so for any method, since who says goodbye there says which requests he has not looked at.
    fn keep(&mut self, pick: &Pick, body: RequestBody) -> RequestBody {
        let wanted =
            pick.rule.retry.is_some() || pick.endpoint.protocol == Protocol::Http2 || self.head.method.is_idempotent();
        if !wanted || matches!(self.store, Store::Empty) {
            return body;
        }
        let Ok(room) = self.worker.keeping.clone().try_acquire_owned() else { return body };
        let (body, kept) = body.kept();
        self.store = Store::Kept { body: kept, _room: room };
        body
    }

    /// The body for another attempt, if all of it is there.
    fn whole(&self) -> Option<RequestBody> {
        match &self.store {
            Store::Empty => Some(RequestBody::Empty),
            Store::Kept { body, .. } => body.whole(),
            Store::Gone => None,
        }
    }

    /// The body for another attempt, also one that the client is still sending.
    async fn again(&self) -> Option<RequestBody> {
        match &self.store {
            Store::Empty => Some(RequestBody::Empty),
            // The task that has sent it may not know yet that it is over.
            Store::Kept { body, .. } => timeout(limits::GIVEN_BACK, body.again()).await.ok()?,
            Store::Gone => None,
        }
    }

    fn pick(&self, tried: &[SocketAddr], first: bool) -> Result<Pick, Box<Response<AnswerBody>>> {
        let trusted = &self.worker.manners().trusted;
        let headers = HeaderView { headers: &self.head.headers, client: &self.client, trusted };
        let head = head::routed(&self.head, &self.authority.host, &headers);
        let (client, port) = (&self.client, self.authority.port);
        // What other attempts took is not this version's slowness.
        let started = if self.retries == 0 { self.started } else { Instant::now() };
        // Of a connection that changes its protocol there is no copy.
        let mirrored = first && self.upgrade.is_none();
        let (is_call, id) = (self.is_call, &self.identity.id);
        match self.worker.pick(&Wanted { client, head, port, tried, mirrored, is_call, id, started }) {
            Picked::Forward(pick) => Ok(pick),
            Picked::Preflight(granted) => Err(Box::new(preflight(granted))),
            Picked::Redirect { status, location } => Err(Box::new(redirect(status, &location))),
            Picked::Refuse(refusal) => Err(Box::new(refuse(Reason::Refused(refusal)))),
            Picked::Spared => Err(Box::new(refuse(Reason::CircuitOpen))),
        }
    }

    async fn attempt(&mut self, pick: Pick, body: RequestBody, fresh: bool) -> Attempt {
        let idempotent = self.head.method.is_idempotent();
        let trust = if idempotent && matches!(self.store, Store::Empty) { Trust::Told } else { Trust::Asked };
        let deadline = self.deadline(&pick.rule, Instant::now());
        // A connection of HTTP/1.1 may be as dead as the one before; one of HTTP/2 would have said so.
        let fresh = fresh && pick.endpoint.protocol == Protocol::Http1;
        let pooled = if fresh { None } else { self.worker.pool.take(&pick.endpoint, pick.secure.as_deref(), trust) };
        let reused = pooled.is_some();
        let connection = match pooled {
            Some(connection) => Ok(connection),
            None => match within(deadline, self.worker.connect(&pick)).await {
                Some(connection) => connection,
                None => return self.timed_out(pick),
            },
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(reason) => {
                pick.flight.connection_failed();
                return Attempt::Again { body, failed: pick, reason, unreachable: true };
            }
        };
        let Some(request) = self.request_for(&pick, body) else {
            return Attempt::Answered(self.in_place(pick, Reason::BadRequest("the rewritten path is not valid")));
        };
        match within(deadline, connection.send(request)).await {
            None => self.timed_out(pick),
            Some(Ok(response)) => {
                self.pace.iter().for_each(|pace| pace.set_free(true));
                pick.flight.heard(response.status());
                match self.retry(&pick, &Failure::Status(response.status().as_u16())) {
                    Some((body, delay)) => retried(pick, response.status(), body, delay),
                    None => Attempt::Answered(self.deliver(response, pick, connection)),
                }
            }
            Some(Err(mut error)) => {
                if let Some(cause) = Interrupted::cause(error.error()) {
                    let reason = match cause {
                        Interrupted::Broken(_) => {
                            Reason::BadRequest("the body of the request broke off, or cannot be read")
                        }
                        Interrupted::Slow => Reason::BodyTimeout,
                    };
                    return Attempt::Answered(self.in_place(pick, reason));
                }
                // An old connection that turned out closed says nothing about its backend.
                if !reused {
                    pick.flight.connection_failed();
                }
                let lost = !error.error().is_parse() && !error.error().is_user();
                tracing::debug!(error = %error.error(), reused, "Backend connection died");
                let unsent = error.take_message().map(Request::into_body);
                let refused = was_refused(error.error());
                if refused {
                    connection.wear_out();
                }
                let again = match unsent {
                    None if refused || (idempotent && lost) => self.again().await,
                    unsent => unsent,
                };
                let Some(body) = again else {
                    return Attempt::Answered(self.in_place(pick, Reason::BackendClosed));
                };
                Attempt::Again { body, failed: pick, reason: Reason::BackendClosed, unreachable: !reused }
            }
        }
    }

    fn timed_out(&mut self, pick: Pick) -> Attempt {
        // Nobody can answer a question that is not asked to its end.
        if self.pace.as_ref().is_some_and(|pace| pace.is_behind()) {
            return Attempt::Answered(self.in_place(pick, Reason::BodyTimeout));
        }
        pick.flight.timed_out();
        match self.retry(&pick, &Failure::Timeout) {
            Some((body, delay)) => retried(pick, Reason::AnswerTimeout.status(), body, delay),
            None => Attempt::Answered(self.in_place(pick, Reason::AnswerTimeout)),
        }
    }

    /// Whether the route wants another attempt, and may have it: the body for it, and how long to wait before.
    fn retry(&self, pick: &Pick, failure: &Failure) -> Option<(RequestBody, Duration)> {
        let Retry { codes, attempts, backoff } = pick.rule.retry.as_ref()?;
        let wanted = match failure {
            Failure::Status(code) => codes.contains(code),
            Failure::Timeout => self.head.method.is_idempotent(),
        };
        if !wanted || self.retries >= attempts.unwrap_or(limits::DEFAULT_RETRIES).min(limits::RETRIES) {
            return None;
        }
        let body = self.whole()?;
        let delay =
            backoff.unwrap_or(limits::RETRY_BACK_OFF).saturating_mul(1 << self.retries.min(limits::BACK_OFF_DOUBLINGS));
        let delay = self.worker.jittered(delay);
        let now = Instant::now();
        let late = self.end(&pick.rule).is_some_and(|end| now + delay >= end);
        (!late && self.worker.budget.withdraw(now)).then_some((body, delay))
    }

    /// When an attempt that begins now must have its answer's head.
    fn deadline(&self, rule: &Rule, now: Instant) -> Option<Instant> {
        let attempt = match rule.timeouts {
            Timeouts::Unset => Some(limits::ANSWER),
            Timeouts::Set { backend, .. } => backend,
        };
        attempt.map(|attempt| now + attempt).into_iter().chain(self.end(rule)).min()
    }

    /// When the whole answer must be through.
    fn end(&self, rule: &Rule) -> Option<Instant> {
        match rule.timeouts {
            Timeouts::Set { request: Some(request), .. } => Some(self.started + request),
            Timeouts::Set { request: None, .. } | Timeouts::Unset => None,
        }
    }

    /// What the backend is sent; `None` when a filter made the path invalid.
    fn request_for(&self, pick: &Pick, body: RequestBody) -> Option<Request<RequestBody>> {
        let mut head = self.head_for(&pick.rule, pick.filters.as_deref(), &pick.prefix)?;
        if let Some(Upgrade { protocol, .. }) = &self.upgrade
            && pick.endpoint.protocol == Protocol::Http1
        {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol.clone());
        }
        Some(Request::from_parts(head::spoken(head, pick.endpoint.protocol), body))
    }

    /// The client's head after the filters of the rule, and of the backendRef if there are any.
    fn head_for(&self, rule: &Rule, own: Option<&Filters>, prefix: &str) -> Option<request::Parts> {
        let mut head = head::copy(&self.head);
        head::forward(&mut head, &self.authority, &self.client, &self.identity);
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

    /// Sends the copies of this request off, with a mark. A route's mirror gets what the rule makes of the request, Host included,
    /// without what a single backendRef would change: it is to be compared with the backends. The other version of a backend gets
    /// what this one gets. Any method is copied that comes here, for the route or the Rollout asks for it.
    fn mirror(&self, pick: &mut Pick, body: RequestBody) -> RequestBody {
        let copies = std::mem::take(&mut pick.copies);
        if copies.is_empty() {
            return body;
        }
        let (body, kept) = body.kept();
        for copy in copies {
            let own = pick.filters.as_deref().filter(|_| copy.is_of_backend);
            let Some(mut head) = self.head_for(&pick.rule, own, &pick.prefix) else { continue };
            if let Ok(route) = HeaderValue::from_str(&pick.route) {
                head.headers.insert(head::MIRROR, route);
            }
            if let Some(part) = &copy.part {
                head.headers.insert(head::PARALLEL_RUN, HeaderValue::from_static(part.role().mark()));
            }
            mirror::send(copy, head, kept.clone());
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
        // Another attempt may have gone to the other version.
        let part = self.part.take().filter(|part| part.stable() == pick.endpoint.version.hash);
        let capture = part.and_then(|part| part.begin(head.status, &head.headers));
        head::trust_the_coding(&mut head.headers);
        head::strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        // What is left belongs to the connection to the backend.
        head.extensions.clear();
        self.share(&pick, &mut head.headers);
        for filters in filters_of(&pick) {
            head::edit(&mut head.headers, &filters.response);
        }
        bind(&mut pick, &mut head.headers);
        pick.flight.answer(head.status.as_u16());
        self.note(&mut pick, head.status);
        let end = self.end(&pick.rule);
        let passage = Passage { flight: pick.flight, connection };
        Response::from_parts(head, AnswerBody::streamed(body, passage, capture, end))
    }

    /// Our answer in place of the picked backend's, which pages may read like that one.
    fn in_place(&mut self, mut pick: Pick, reason: Reason) -> Response<AnswerBody> {
        pick.flight.answer(reason.status().as_u16());
        if let Some(entry) = &mut self.entry {
            entry.sent_to(&pick.endpoint);
        }
        let mut answer = refuse(reason);
        self.share(&pick, answer.headers_mut());
        bind(&mut pick, answer.headers_mut());
        answer
    }

    /// Hands the line of the log over to whoever sees the end of the answer.
    fn note(&mut self, pick: &mut Pick, status: StatusCode) {
        if let Some(mut entry) = self.entry.take() {
            entry.sent_to(&pick.endpoint);
            entry.answered(status.as_u16(), None);
            pick.flight.note(Some(entry));
        }
    }

    /// Says to whom the answer may be shown.
    fn share(&self, pick: &Pick, headers: &mut HeaderMap) {
        for cors in filters_of(pick).filter_map(|filters| filters.cors.as_ref()) {
            head::share(headers, cors, self.head.headers.get(ORIGIN));
        }
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
        bind(&mut pick, &mut head.headers);
        pick.flight.answer(head.status.as_u16());
        self.note(&mut pick, head.status);
        tunnel::spawn(self.client.clone(), client, backend, pick.flight);
        Response::from_parts(head, AnswerBody::Own(None))
    }
}

/// Lets the client come to the same version, or pod, again.
fn bind(pick: &mut Pick, headers: &mut HeaderMap) {
    for (name, value) in pick.reminders.drain(..) {
        headers.append(name, value);
    }
}

/// The rule's filters, and those of the chosen backendRef if it has any.
fn filters_of(pick: &Pick) -> impl Iterator<Item = &Filters> {
    std::iter::once(&pick.rule.filters).chain(pick.filters.as_deref())
}

/// The backend says that it has not looked at this request: any method may be sent again. It refuses the stream by name, or says
/// goodbye with a last stream below it (RFC 9113, 8.7).
fn was_refused(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let reason = cause.reason();
        cause.is_remote()
            && (reason == Some(h2::Reason::REFUSED_STREAM)
                || cause.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
    })
}

/// The attempt ended with this status, which the client will not see.
fn retried(mut pick: Pick, status: StatusCode, body: RequestBody, delay: Duration) -> Attempt {
    pick.flight.answer(status.as_u16());
    Attempt::Retry { body, failed: pick.endpoint.address, delay }
}

/// `None` when the time is up.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
    }
}
