//! A request, parsed: where it goes, what it asks for, what it carries. Nothing here acts.

mod body;
mod delete_options;
mod list_options;
mod media;
mod path;
mod query;
mod write_options;

pub(crate) use body::{BodyFormat, PatchFormat};
pub(crate) use delete_options::{DeleteOptions, Propagation};
pub(crate) use list_options::{Continue, ListOptions, Snapshot, revision};
pub(crate) use media::{Accept, Encoding, Shape, negotiate};
pub(crate) use path::{Route, Target, route};
pub(crate) use query::{Query, unescape};
pub(crate) use write_options::{FieldValidation, WriteOptions};
