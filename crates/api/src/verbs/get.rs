//! Reading one object.

use http::{Response, StatusCode};

use crate::body::Body;
use crate::call::Call;
use crate::live;
use crate::refusal::Refusal;
use crate::render;
use crate::request::revision;

pub(crate) async fn get(call: &Call) -> Result<Response<Body>, Refusal> {
    if call.query.get("export").is_some() {
        return Err(Refusal::bad("the export parameter, deprecated since v1.14, is no longer supported"));
    }
    render::check_object(call)?;
    if let Some(text) = call.query.text("resourceVersion") {
        let asked = revision(text).map_err(|fault| Refusal::Unexplained(fault.line()))?;
        call.server.storage().reach(asked).await?;
    }
    if let Some(live) = call.server.live(call.kind()) {
        return live::get(call, live).await;
    }
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    render::entry(call, StatusCode::OK, &entry)
}
