//! Parts of objects with paths of their own.

use http::Response;

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::verbs::{self, Verb};

pub(crate) async fn act(verb: Verb, call: &Call) -> Result<Response<Body>, Refusal> {
    match (call.target.subresource.as_deref().unwrap_or_default(), verb) {
        ("status", Verb::Get | Verb::Update | Verb::Patch) => verbs::on_object(verb, call).await,
        _ => Err(Refusal::NotImplemented("this subresource is not served yet".into())),
    }
}
