//! From a request to its answer: authenticate, find what the path names, read the body, act, render.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::body::Body;
use crate::call::{Call, Notices};
use crate::endpoints;
use crate::identity::Identity;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::request::{Encoding, Query, Route, negotiate, route};
use crate::rules;
use crate::server::{BoxError, Server};
use crate::streams::Upgrade;
use crate::verbs::{self, Verb};

/// The largest body of a request.
const BODY_BYTES: usize = 3 << 20;
/// How long anything but a watch or a log may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Answers a request of this user, or says why the user is not known.
pub(crate) async fn answer<B>(server: &Server, user: Result<Identity, Refusal>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let notices = Arc::new(Notices::default());
    let yaml = text(&parts.headers, "accept").starts_with("application/yaml");
    let encoding = if yaml { Encoding::Yaml } else { Encoding::Json };
    let result = match user.and_then(|user| user.impersonating(&parts.headers)) {
        Ok(user) => respond(server, user, &parts, body, Arc::clone(&notices)).await,
        Err(refusal) => Err(refusal),
    };
    let response = result.unwrap_or_else(|refusal| render::refusal(&refusal, encoding));
    let response = render::with_warnings(response, notices.take());
    server.inner.meter.count(&parts.method, response.status());
    if parts.method == Method::HEAD { response.map(|_| Body::whole(Bytes::new())) } else { response }
}

async fn respond<B>(
    server: &Server,
    user: Identity,
    parts: &Parts,
    body: B,
    notices: Arc<Notices>,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let path = parts.uri.path();
    if !user.is_authenticated() && !endpoints::is_open(path) {
        return Err(shut_out(server, &user, parts));
    }
    let kinds = server.registry().kinds();
    match route(path, &kinds)? {
        Route::Other(path) => endpoints::answer(server, &path, parts).await,
        Route::Discovery { group, version } => endpoints::group_discovery(&kinds, &group, version.as_deref(), parts),
        Route::Resource(target) => {
            if let Some(text) = rules::deprecation(&target.kind) {
                notices.add(text);
            }
            let query = Query::parse(parts.uri.query().unwrap_or_default());
            let verb = Verb::of(&parts.method, &target, &query)?;
            let accept = negotiate(&text(&parts.headers, "accept"), false)?;
            let body = if verb.has_body() { read(body).await? } else { Bytes::new() };
            let content_type = parts.headers.get(header::CONTENT_TYPE);
            let call = Call {
                server: server.clone(),
                user,
                target,
                query,
                accept,
                content_type: content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                user_agent: text(&parts.headers, "user-agent"),
                body,
                notices,
                upgrade: Upgrade::of(parts),
            };
            if verb.is_long(&call) {
                return verbs::act(verb, call).await;
            }
            let acted = tokio::time::timeout(REQUEST_TIME, verbs::act(verb, call)).await;
            acted.unwrap_or_else(|_| Err(Refusal::ServiceUnavailable("the request took too long".into())))
        }
    }
}

/// What somebody is told who showed no credentials.
fn shut_out(server: &Server, user: &Identity, parts: &Parts) -> Refusal {
    let path = parts.uri.path();
    let verb = parts.method.as_str().to_ascii_lowercase();
    let kinds = server.registry().kinds();
    let Ok(Route::Resource(target)) = route(path, &kinds) else {
        return Refusal::ForbiddenPath { user: user.name.clone(), verb, path: path.to_owned() };
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let verb = Verb::of(&parts.method, &target, &query).map_or(verb, |verb| verb.name().to_owned());
    let kind = &target.kind;
    let resource = match &target.subresource {
        Some(sub) => format!("{}/{sub}", kind.plural),
        None => kind.plural.clone(),
    };
    let place = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!("User {:?} cannot {verb} resource {resource:?} in API group {:?} {place}", user.name, kind.group);
    let named = Named::of(kind, target.name.as_deref().unwrap_or_default());
    Refusal::Forbidden { named, why, causes: vec![] }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let collected = Limited::new(body, BODY_BYTES).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::TooLarge(format!("limit is {BODY_BYTES}"))
        } else {
            Refusal::bad(format!("the body ended early: {error}"))
        }
    })
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}
