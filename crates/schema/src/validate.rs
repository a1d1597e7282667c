//! What a built-in kind accepts, in the words and the order of a real API server.
//!
//! [`create`] looks at a whole new object, [`update`] at what replaces another one, [`warnings`] at what is accepted with a
//! remark. All three expect decoded and defaulted objects. [`KINDS`] says which rules each kind has; the modules hold them.
//!
//! Left to the server, because it takes more than the objects: whether addresses and ports are free and families are
//! configured, whether names that are referred to exist, quotas and limit ranges, and that an update names a revision.

mod autoscaling;
mod batch;
mod check;
mod cluster;
mod config;
mod cron;
mod cursor;
mod endpoints;
mod events;
mod go_json_syntax;
mod ip;
mod kinds;
mod meta;
mod names;
mod network;
mod pod;
mod policy;
mod quantities;
mod rbac;
mod selector;
mod service;
mod sets;
mod storage;
mod warnings;
mod webhooks;
mod workloads;

use serde_json::Value;

use crate::fault::Fault;
use crate::kinds::Kind;
use check::Faults;
use cursor::At;

pub(crate) use selector::show as show_selector;
pub use warnings::warnings;

/// What is wrong with an object that is about to be created.
pub fn create(kind: &Kind, object: &Value) -> Vec<Fault> {
    let rules = kinds::rules(kind);
    let (mut f, object) = (Faults::default(), At::root(object));
    meta::create(&mut f, &object, &rules.naming(kind));
    (rules.create)(&mut f, &object);
    f.into_list()
}

/// What is wrong with an object that is about to replace `old`, written through `subresource` if not as a whole.
pub fn update(kind: &Kind, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<Fault> {
    let rules = kinds::rules(kind);
    let (mut f, new, old) = (Faults::default(), At::root(new), At::root(old));
    meta::update(&mut f, &new, &old);
    if kind.custom.is_some() {
        // Said once more by what serves custom resources.
        meta::update(&mut f, &new, &old);
    } else {
        let naming = rules.naming(kind);
        meta::update_of_kind(&mut f, &new, &old, &naming);
        if rules.checks_as_new && subresource.is_none() {
            meta::create(&mut f, &new, &naming);
        }
    }
    let check = match subresource {
        None => rules.update,
        Some("status") => rules.status,
        Some("ephemeralcontainers") => pod::update::ephemeral_containers,
        Some("resize") => pod::update::resize,
        Some(_) => |_: &mut Faults, _: &At<'_>, _: &At<'_>| {},
    };
    check(&mut f, &new, &old);
    f.into_list()
}
