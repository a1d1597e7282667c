//! Reading one object.

use http::{Response, StatusCode};

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::render;

pub(crate) fn get(call: &Call) -> Result<Response<Body>, Refusal> {
    if call.query.get("export").is_some() {
        return Err(Refusal::bad("the export parameter, deprecated since v1.14, is no longer supported"));
    }
    render::check_object(call)?;
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    render::entry(call, StatusCode::OK, &entry)
}
