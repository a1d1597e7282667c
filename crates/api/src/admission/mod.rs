//! What the server adds to objects, or refuses, because of other objects: a list of functions in a fixed order.

mod default_class;
mod limit_range;
mod mountable;
mod namespace;
mod nodes;
mod owner_references;
mod pod_security;
mod priority;
mod protection;
mod quota;
mod service_account;
mod services;

use serde_json::Value;

pub(crate) use owner_references::{Found, dedup};
pub(crate) use priority::SYSTEM;
pub(crate) use quota::{QuotaQueues, charge};
pub(crate) use services::{Addresses, claim, release};

use crate::call::Call;
use crate::definitions;
use crate::object::Object;
use crate::refusal::Refusal;

/// Before a new object is prepared and validated.
pub(crate) async fn create(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let kind = call.kind();
    definitions::admit(&call.server, kind, object.name())?;
    namespace::must_be_live(call, object)?;
    namespace::complete(kind, object);
    protection::add(kind, object);
    default_class::admit(call, object);
    if kind.is("", "Pod") {
        limit_range::complete(call, object);
        service_account::admit(call, object).await?;
        priority::admit(call, object)?;
        nodes::tolerate_failures(object);
    }
    Ok(())
}

/// Before a changed object is prepared and validated.
pub(crate) fn update(call: &Call, live: &Value, object: &mut Value) -> Result<(), Refusal> {
    let kind = call.kind();
    namespace::must_exist(call)?;
    namespace::label(kind, object);
    if kind.is("", "Pod") && call.target.subresource.is_none() {
        priority::keep(live, object);
        nodes::tolerate_failures(object);
    }
    Ok(())
}

/// Once an object is complete and valid; `before` is what it was, none for a new one.
pub(crate) fn judge(call: &Call, before: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    limit_range::check(call, before, object)?;
    mountable::check(call, before, object)?;
    pod_security::check(call, before, object)
}

/// Before an object is marked for deletion.
pub(crate) fn delete(call: &Call, live: &Value) -> Result<(), Refusal> {
    namespace::may_go(call.kind(), live)?;
    priority::may_go(call.kind(), live)
}
