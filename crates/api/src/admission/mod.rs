//! What the server adds to objects, or refuses, because of other objects: a list of functions in a fixed order.

mod namespace;

use serde_json::Value;

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::server::Server;
use sluice_schema::Kind;

/// Before a new object is prepared and validated.
pub(crate) fn create(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    crate::definitions::admit(&call.server, call.kind(), object.name())?;
    namespace::must_be_live(call, object)?;
    namespace::label(call.kind(), object);
    Ok(())
}

pub(crate) fn update(call: &Call, live: &Value, object: &mut Value) -> Result<(), Refusal> {
    let _ = (call, live, object);
    Ok(())
}

pub(crate) fn delete(call: &Call, live: &Value) -> Result<(), Refusal> {
    namespace::may_go(call.kind(), live)
}

/// What was set aside for an object that is not stored yet; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Claim {}

impl Claim {
    /// The object is stored.
    pub(crate) fn keep(self) {}
}

/// Sets aside what only one object may have.
pub(crate) fn claim(call: &Call, live: Option<&Value>, object: &mut Value, dry_run: bool) -> Result<Claim, Refusal> {
    let _ = (call, live, object, dry_run);
    Ok(Claim::default())
}

/// Gives back what a deleted object had.
pub(crate) fn release(server: &Server, kind: &Kind, object: &Value) {
    let _ = (server, kind, object);
}
