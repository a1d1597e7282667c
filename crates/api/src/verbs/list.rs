//! Listing: pages of one state, the newest or a remembered one.

use std::sync::Arc;

use http::{Response, StatusCode};
use sluice_store::{Entry, ListError, Revision};

use crate::body::Body;
use crate::call::Call;
use crate::live;
use crate::refusal::Refusal;
use crate::render;
use crate::request::{Continue, ListOptions, Snapshot};
use crate::selection::Selection;
use crate::storage::scope;

/// How many entries are read at once while a selector looks for matching ones.
const CHUNK: usize = 500;

/// What a list found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) revision: Revision,
    pub(crate) next: Option<Continue>,
    /// Told only without selectors.
    pub(crate) remaining: Option<usize>,
}

pub(crate) async fn list(call: &Call) -> Result<Response<Body>, Refusal> {
    render::check_list(call)?;
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(call.kind(), &options)?;
    if let Some(live) = call.server.live(call.kind()) {
        return live::list(call, live, &selection).await;
    }
    let options = options.with_continue(&call.query)?;
    match options.snapshot()? {
        Snapshot::NotOlderThan(revision) | Snapshot::Exact(revision) => call.server.storage().reach(revision).await?,
        Snapshot::Newest => {}
    }
    let found = collect(call, &scope(call.kind(), call.namespace()), &options, &selection)?;
    render::list(call, StatusCode::OK, &found)
}

/// The entries of a scope that are asked for.
pub(crate) fn collect(
    call: &Call,
    scope: &str,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Found, Refusal> {
    let mut at = match options.snapshot()? {
        Snapshot::Exact(revision) => Some(Revision(revision)),
        Snapshot::Newest | Snapshot::NotOlderThan(_) => None,
    };
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut after = options.from.as_ref().map(|from| format!("{scope}{}", from.after));
    let mut found = Found { entries: vec![], revision: Revision::ZERO, next: None, remaining: None };
    loop {
        let wanted = limit - found.entries.len();
        let chunk = if selection.is_everything() { wanted } else { wanted.max(CHUNK) };
        let chunk = (chunk != usize::MAX && limit != usize::MAX).then_some(chunk);
        let page = call
            .server
            .storage()
            .list(scope, after.as_deref(), chunk, at)
            .map_err(|error| unreadable(error, options, at, call, after.as_deref(), scope))?;
        found.revision = page.revision;
        at = Some(page.revision);
        let (more, mut last) = (page.more, None);
        let mut rest = page.entries.into_iter();
        for entry in rest.by_ref() {
            if selection.matches(call.kind(), &entry) {
                found.entries.push(Arc::clone(&entry));
            }
            last = Some(entry.key.to_string());
            if found.entries.len() == limit {
                break;
            }
        }
        let unread = rest.len();
        let full = found.entries.len() == limit;
        if full && (more || unread > 0) {
            let start = last.as_deref().and_then(|key| key.strip_prefix(scope)).unwrap_or_default();
            found.next = Some(Continue { revision: Some(found.revision.0), after: start.to_owned() });
            found.remaining = selection.is_everything().then_some(page.remaining + unread);
        }
        if full || !more {
            return Ok(found);
        }
        after = last;
    }
}

fn unreadable(
    error: ListError,
    options: &ListOptions,
    at: Option<Revision>,
    call: &Call,
    after: Option<&str>,
    scope: &str,
) -> Refusal {
    let asked = at.unwrap_or_default().0;
    match error {
        ListError::Compacted { oldest } if options.from.is_some() => {
            // A token that is too old may be exchanged for one that goes on in the newest state.
            let after = after.and_then(|key| key.strip_prefix(scope)).unwrap_or_default().to_owned();
            let fresh = Continue { revision: None, after };
            let _ = oldest;
            Refusal::Expired {
                message: "The provided continue parameter is too old to display a consistent list result. You can start a \
                          new list without the continue parameter, or use the continue token in this response to retrieve \
                          the remainder of the results. Continuing with the provided token results in an inconsistent \
                          list - objects that were created, modified, or deleted between the time the first chunk was \
                          returned and now may show up in the list."
                    .into(),
                fresh_continue: Some(fresh.encode()),
            }
        }
        ListError::Compacted { .. } => Refusal::Expired {
            message: "The resourceVersion for the provided list is too old.".into(),
            fresh_continue: None,
        },
        ListError::Future { current } => {
            let _ = call;
            Refusal::RevisionTooLarge { asked, current: current.0 }
        }
    }
}

/// Writes the items of a list, glued together from stored bytes. `strip` is the beginning that items of a list go without.
pub(crate) fn glue(out: &mut Vec<u8>, entries: &[Arc<Entry>], strip: &str) {
    out.reserve(entries.iter().map(|entry| entry.bytes.len() + 1).sum::<usize>() + 3);
    out.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match entry.bytes.strip_prefix(strip.as_bytes()) {
            Some(rest) if !strip.is_empty() => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&entry.bytes),
        }
    }
    out.push(b']');
}
