//! Which object is looked at next: each key at most once at a time, retries with a growing pause, a bounded number of
//! passes at once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Error;
use super::informer::Key;

/// Passes of one controller at a time, where they do not get in each other's way.
pub(crate) const CONCURRENCY: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// When to look at an object again though nothing happens to it.
pub(crate) type Wake = Option<Duration>;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Key>,
    /// In `ready`, or to be put there once its running pass is over.
    wanted: HashSet<Key>,
    running: HashSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    /// The one place of a key in `later`.
    wake_at: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

/// What the runner does next.
enum Next {
    Run(Key),
    WaitUntil(Option<Instant>),
}

impl Queue {
    pub(crate) fn add(&self, key: Key) {
        if self.lock().add(key) {
            self.changed.notify_one();
        }
    }

    /// Looks at this key after so long at the latest; what comes until then is seen by one pass.
    pub(crate) fn add_within(&self, key: Key, delay: Duration) {
        let mut state = self.lock();
        let at = Instant::now() + delay;
        if state.wake_at.get(&key).is_none_or(|before| *before > at) {
            state.wake(key, at);
            self.changed.notify_one();
        }
    }

    /// Reconciles keys as they come until it is dropped.
    pub(crate) async fn run<F>(self: Arc<Self>, name: &'static str, concurrency: usize, reconcile: impl Fn(Key) -> F)
    where
        F: Future<Output = Result<Wake, Error>> + Send + 'static,
    {
        let mut passes = JoinSet::new();
        loop {
            let full = passes.len() >= concurrency;
            let next = if full { Next::WaitUntil(None) } else { self.lock().next(Instant::now()) };
            let until = match next {
                Next::Run(key) => {
                    let pass = reconcile(key.clone());
                    passes.spawn(async move {
                        let result = AssertUnwindSafe(pass).catch_unwind().await;
                        (key, result.unwrap_or_else(|_| Err(Error::Panicked)))
                    });
                    continue;
                }
                Next::WaitUntil(until) => until,
            };
            let timer = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(finished) = passes.join_next() => {
                    // Passes are only aborted together with this loop, and their panics are caught.
                    if let Ok((key, result)) = finished {
                        self.finish(name, key, result);
                    }
                }
                () = self.changed.notified() => {}
                () = timer => {}
            }
        }
    }

    fn finish(&self, name: &'static str, key: Key, result: Result<Wake, Error>) {
        let mut state = self.lock();
        state.running.remove(&key);
        if state.wanted.contains(&key) {
            state.ready.push_back(key.clone());
        }
        match result {
            Ok(wake) => {
                state.failures.remove(&key);
                if let Some(delay) = wake {
                    state.wake(key, Instant::now() + delay);
                }
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(20)).min(LAST_RETRY);
                *failures += 1;
                log(name, &key, &error);
                state.wake(key, Instant::now() + delay);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is something new to do.
    fn add(&mut self, key: Key) -> bool {
        if !self.wanted.insert(key.clone()) || self.running.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// The last word counts.
    fn wake(&mut self, key: Key, at: Instant) {
        if let Some(before) = self.wake_at.insert(key.clone(), at) {
            self.later.remove(&(before, key.clone()));
        }
        self.later.insert((at, key));
    }

    fn next(&mut self, now: Instant) -> Next {
        while let Some((at, _)) = self.later.first() {
            if *at > now {
                break;
            }
            if let Some((_, key)) = self.later.pop_first() {
                self.wake_at.remove(&key);
                self.add(key);
            }
        }
        match self.ready.pop_front() {
            Some(key) => {
                self.wanted.remove(&key);
                self.running.insert(key.clone());
                Next::Run(key)
            }
            None => Next::WaitUntil(self.later.first().map(|(at, _)| *at)),
        }
    }
}

fn log(controller: &'static str, key: &Key, error: &Error) {
    if error.is_ordinary() {
        tracing::debug!(controller, %key, %error, "Pass repeated");
    } else {
        let cause = error.cause();
        tracing::warn!(controller, %key, %error, cause, "Pass failed");
    }
}
