//! Tokens of service accounts.

use http::Response;

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;

pub(super) fn request(call: &Call) -> Result<Response<Body>, Refusal> {
    if call.server.storage().get(&call.key()).is_none() {
        return Err(Refusal::not_found(call.kind(), call.name()));
    }
    Err(Refusal::NotImplemented("tokens of service accounts are not issued in this release".into()))
}
