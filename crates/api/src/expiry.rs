//! Events are forgotten after an hour, so that what happened does not fill the store.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use crate::object::Object;
use crate::server::Server;
use crate::storage::Key;

/// How long an event is kept after it was last seen.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often old events are looked for.
const EVERY: Duration = Duration::from_secs(5 * 60);
const EVENTS: &str = "/core/events/";

/// Forgets old events until the server stops.
pub(crate) fn start(server: &Server) {
    let weak = std::sync::Arc::downgrade(&server.inner);
    let stopping = server.inner.stopping.clone();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                () = stopping.cancelled() => return,
            }
            let Some(inner) = weak.upgrade() else { return };
            sweep(&Server { inner }, Timestamp::now()).await;
        }
    });
}

async fn sweep(server: &Server, now: Timestamp) {
    for entry in server.storage().all(EVENTS) {
        if is_old(&entry.value(), now) {
            let removed = server.storage().remove(&Key(entry.key.to_string()), entry.revision, &entry.value()).await;
            if let Err(refusal) = removed {
                tracing::warn!(why = refusal.message(), "Old events stay");
                return;
            }
        }
    }
}

/// Whether an event was last seen too long ago.
fn is_old(event: &Value, now: Timestamp) -> bool {
    let seen = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .find_map(|pointer| event.text(pointer).parse::<Timestamp>().ok());
    seen.is_some_and(|seen| now.duration_since(seen) > KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_as_old_as_its_last_sighting() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let event =
            |last: &str| json!({"metadata": {"creationTimestamp": "2026-01-01T09:00:00Z"}, "lastTimestamp": last});
        assert!(!is_old(&event("2026-01-01T11:30:00Z"), now));
        assert!(is_old(&event("2026-01-01T10:30:00Z"), now));
        assert!(is_old(&event(""), now), "one that was never seen again is as old as itself");
        assert!(!is_old(&json!({}), now), "what has no time is not judged");
    }
}
