//! Watching: what happens to the objects of a collection, as it happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use sluice_schema::Kind;
use sluice_store::{Entry, Event, EventKind, Revision, Watch, WatchError};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::render::{self, Frames};
use crate::request::{Encoding, ListOptions, revision};
use crate::selection::Selection;
use crate::storage::scope;

/// How long a watch lives when nobody says.
const WATCH_TIME: Duration = Duration::from_secs(30 * 60);
/// How often a quiet watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events that are ready are sent together, but not more than this many bytes.
const FRAME_BYTES: usize = 64 << 10;

/// Where a watch begins.
enum Start {
    /// The state first, as if it had just been added.
    State {
        then_bookmark: bool,
    },
    After(Revision),
}

pub(crate) async fn watch(call: &Call) -> Result<Response<Body>, Refusal> {
    let frames = Frames::new(call)?;
    let options = ListOptions::parse(&call.query, true)?;
    let selection = watched(call, &options)?;
    let asked = match options.resource_version.as_str() {
        "" | "0" => None,
        text => Some(revision(text).map_err(|fault| Refusal::Unexplained(fault.line()))?),
    };
    let start = match (options.send_initial_events, asked) {
        (Some(true), _) => Start::State { then_bookmark: options.bookmarks },
        (_, None) => Start::State { then_bookmark: false },
        (_, Some(asked)) => Start::After(Revision(asked)),
    };
    let mut feed = Feed {
        kind: Arc::clone(&call.target.kind),
        frames,
        selection,
        ready: VecDeque::new(),
        watch: None,
        until: Instant::now() + options.timeout_seconds.map_or(WATCH_TIME, Duration::from_secs),
        bookmarks: options.bookmarks.then(bookmark_timer),
        skip_until: None,
        stopping: call.server.inner.stopping.clone(),
    };
    if let (Some(true), Some(asked)) = (options.send_initial_events, asked)
        && let Err(refusal) = call.server.storage().reach(asked).await
    {
        feed.fail(&refusal);
    } else {
        feed.begin(call, &start);
    }
    let yaml = call.accept.encoding == Encoding::Yaml;
    let content_type = if yaml { "application/yaml;stream=watch" } else { "application/json" };
    let chunks = stream::unfold(feed, |mut feed| async move { feed.next().await.map(|chunk| (chunk, feed)) });
    let response = Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, "no-cache, private");
    Ok(response.body(Body::chunks(chunks)).expect("these headers are valid"))
}

/// What is watched: a selection, or for the old `/watch/.../NAME` paths that one object.
fn watched(call: &Call, options: &ListOptions) -> Result<Selection, Refusal> {
    let mut selection = Selection::parse(call.kind(), options)?;
    if let Some(name) = &call.target.name {
        selection.only_name(name);
    }
    Ok(selection)
}

fn bookmark_timer() -> Interval {
    let mut timer = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// A running watch.
struct Feed {
    kind: Arc<Kind>,
    frames: Frames,
    selection: Selection,
    ready: VecDeque<Bytes>,
    /// `None` once the watch has ended: what is ready is still sent.
    watch: Option<Watch>,
    until: Instant,
    bookmarks: Option<Interval>,
    /// A revision of the future: older events are not wanted.
    skip_until: Option<Revision>,
    stopping: CancellationToken,
}

impl Feed {
    fn begin(&mut self, call: &Call, start: &Start) {
        let scope = scope(call.kind(), call.namespace());
        let storage = call.server.storage();
        let after = match start {
            Start::After(revision) if *revision > storage.progress() => {
                self.skip_until = Some(*revision);
                storage.progress()
            }
            Start::After(revision) if *revision < call.server.inner.first => {
                let why = WatchError::Compacted { oldest: call.server.inner.first };
                return self.fail(&ended(why, *revision));
            }
            Start::After(revision) => *revision,
            Start::State { then_bookmark } => match storage.list(&scope, None, None, None) {
                Ok(page) => {
                    let selection = &self.selection;
                    let matching = page.entries.iter().filter(|entry| selection.matches(call.kind(), entry));
                    self.ready.extend(matching.map(|entry| self.frames.event("ADDED", entry)));
                    if *then_bookmark {
                        self.ready.push_back(self.frames.bookmark(page.revision.0, true));
                    }
                    page.revision
                }
                Err(error) => return self.fail(&Refusal::Internal(error.to_string())),
            },
        };
        match storage.watch(&scope, after) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => self.fail(&ended(error, after)),
        }
    }

    /// The next chunk of the body; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.take_ready() {
                return Some(chunk);
            }
            let watch = self.watch.as_mut()?;
            let bookmark = async {
                match self.bookmarks.as_mut() {
                    Some(timer) => timer.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = watch.next() => match event {
                    Ok(event) => {
                        self.take(&event);
                        self.drain();
                    }
                    Err(error) => self.fail(&ended(error, Revision::ZERO)),
                },
                _ = bookmark => self.mark(),
                () = tokio::time::sleep_until(self.until) => self.finish(),
                () = self.stopping.cancelled() => self.finish(),
            }
        }
    }

    /// What is ready, as one chunk of bounded size.
    fn take_ready(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        if self.ready.is_empty() {
            return Some(first);
        }
        let mut chunk = Vec::from(first);
        while let Some(next) = self.ready.front()
            && chunk.len() + next.len() <= FRAME_BYTES
        {
            chunk.extend_from_slice(next);
            self.ready.pop_front();
        }
        Some(chunk.into())
    }

    /// Takes the events that wait already.
    fn drain(&mut self) {
        let mut size: usize = self.ready.iter().map(Bytes::len).sum();
        while size < FRAME_BYTES
            && let Some(watch) = self.watch.as_mut()
            && let Ok(Some(event)) = watch.try_next()
        {
            let before = self.ready.len();
            self.take(&event);
            size += self.ready.iter().skip(before).map(Bytes::len).sum::<usize>();
        }
    }

    /// An event as this watch sees it: leaving the selection is a deletion, entering it a creation.
    fn take(&mut self, event: &Event) {
        if self.skip_until.is_some_and(|revision| event.revision <= revision) {
            return;
        }
        let before = event.previous.as_ref().filter(|entry| self.selection.matches(&self.kind, entry));
        let now = event.kind == EventKind::Put && self.selection.matches(&self.kind, &event.entry);
        match (before, now) {
            (None, true) => self.push("ADDED", &event.entry),
            (Some(_), true) => self.push("MODIFIED", &event.entry),
            (Some(_), false) if event.kind == EventKind::Delete => self.push("DELETED", &event.entry),
            // The last state that matched, at the revision of the change.
            (Some(before), false) => {
                let frame = self.frames.left(before, event.revision.0);
                self.ready.push_back(frame);
            }
            (None, false) => {}
        }
    }

    fn push(&mut self, what: &str, entry: &Arc<Entry>) {
        let frame = self.frames.event(what, entry);
        self.ready.push_back(frame);
    }

    fn mark(&mut self) {
        if let Some(revision) = self.watch.as_ref().and_then(Watch::progress) {
            self.ready.push_back(self.frames.bookmark(revision.0, false));
        }
    }

    fn finish(&mut self) {
        if self.bookmarks.is_some() && !self.stopping.is_cancelled() {
            self.mark();
        }
        self.watch = None;
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.ready.push_back(render::error_frame(refusal));
        self.watch = None;
    }
}

fn ended(error: WatchError, asked: Revision) -> Refusal {
    match error {
        WatchError::Compacted { oldest } => {
            Refusal::Expired { message: format!("too old resource version: {asked} ({oldest})"), fresh_continue: None }
        }
        WatchError::Slow { .. } => Refusal::Expired { message: error.to_string(), fresh_continue: None },
        WatchError::Closed => Refusal::ServiceUnavailable("the server is shutting down".into()),
    }
}
