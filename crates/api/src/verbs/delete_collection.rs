//! Deleting many objects: those that a list with the same options would show.

use http::{Response, StatusCode};
use sluice_store::Entry;
use std::sync::Arc;

use super::delete::{delete_one, options};
use super::list::collect;
use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::render;
use crate::request::ListOptions;
use crate::selection::Selection;
use crate::storage::{Key, scope};

/// Answers with the objects as they were before.
pub(crate) async fn delete_collection(call: &Call) -> Result<Response<Body>, Refusal> {
    let delete = options(call)?;
    let list = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(call.kind(), &list)?;
    let list = list.with_continue(&call.query)?;
    let page = collect(call, &scope(call.kind(), call.namespace()), &list, &selection)?;
    let before: Vec<Arc<Entry>> = page.entries.clone();
    for entry in &before {
        let name = entry.key.rsplit('/').next().unwrap_or_default();
        match delete_one(call, &Key(entry.key.to_string()), name, &delete).await {
            Ok(_) | Err(Refusal::NotFound(_)) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    render::list(call, StatusCode::OK, &page)
}
