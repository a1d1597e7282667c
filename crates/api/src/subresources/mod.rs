//! Parts of objects with paths of their own.

mod binding;
mod eviction;
mod log;
mod pod;
mod scale;
mod token;

use http::Response;

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::verbs::{self, Verb};

pub(crate) use binding::bind_by_collection;

pub(crate) async fn act(verb: Verb, call: &Call) -> Result<Response<Body>, Refusal> {
    let name = call.target.subresource.as_deref().unwrap_or_default();
    if call.kind().subresource(name).is_none() {
        // Custom resources: what they do not have is looked for below the object, and not found.
        return Err(Refusal::not_found(call.kind(), call.name()));
    }
    match (name, verb) {
        ("scale", Verb::Get) => scale::get(call),
        ("scale", Verb::Update) => scale::update(call).await,
        ("scale", _) => scale::patch(call).await,
        ("binding", _) => binding::bind(call).await,
        ("eviction", _) => eviction::evict(call).await,
        ("token", _) => token::request(call),
        ("log", _) => log::log(call).await,
        ("exec" | "attach" | "portforward", _) => pod::stream(call, name),
        ("proxy", _) => pod::proxy(call),
        (_, Verb::Get | Verb::Update | Verb::Patch) => verbs::on_object(verb, call).await,
        _ => Err(Refusal::MethodNotAllowed),
    }
}
