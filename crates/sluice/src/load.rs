//! `sluice load`: sends a steady stream of requests and counts everything that goes wrong.
//!
//! With a rate it is an open loop: every request has its moment, and its latency counts from that moment, so that a slow
//! server cannot hide by slowing the generator down. With a concurrency it is a closed loop, for saturation.

mod connection;
mod report;
mod tally;
mod target;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use report::{as_json, as_text};
pub(crate) use tally::Tally;
pub(crate) use target::Target;

use connection::Pool;

/// How fast requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Requests per second, open loop.
    Rate(f64),
    /// Requests always in flight, closed loop.
    Concurrency(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub target: Target,
    pub pace: Pace,
    /// Until stopped when absent.
    pub duration: Option<Duration>,
}

/// A running load; counts can be read at any time.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    sender: JoinHandle<()>,
}

/// The most requests an open loop keeps in flight; those beyond it count as failed, never silently dropped.
const MAX_IN_FLIGHT: usize = 20_000;

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let (stop, stopped) = watch::channel(false);
        let pool = Arc::new(Pool::new(plan.target));
        let started = Instant::now();
        let end = plan.duration.map(|d| started + d);
        let sender = match plan.pace {
            Pace::Rate(rate) => tokio::spawn(open_loop(pool, tally.clone(), rate, end, stopped)),
            Pace::Concurrency(n) => tokio::spawn(closed_loop(pool, tally.clone(), n, end, stopped)),
        };
        Self { tally, stop, sender }
    }

    /// The counts so far.
    pub(crate) fn so_far(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Sends no more, waits for what is in flight, and returns the counts with the time that sending took.
    pub(crate) async fn stop(self) -> (Tally, Duration) {
        let _ = self.stop.send(true);
        self.finish().await
    }

    /// Waits until the plan's duration is over.
    pub(crate) async fn finish(self) -> (Tally, Duration) {
        let _ = self.sender.await;
        let tally = lock(&self.tally).clone();
        let took = tally.sending;
        (tally, took)
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open_loop(
    pool: Arc<Pool>,
    tally: Arc<Mutex<Tally>>,
    rate: f64,
    end: Option<Instant>,
    mut stopped: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let mut in_flight = tokio::task::JoinSet::new();
    for n in 0_u64.. {
        let due = started + Duration::from_secs_f64(n as f64 / rate);
        if end.is_some_and(|end| due >= end) {
            break;
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep_until(due), if due > Instant::now() => {}
            () = std::future::ready(()), if due <= Instant::now() => {}
        }
        while in_flight.try_join_next().is_some() {}
        if in_flight.len() >= MAX_IN_FLIGHT {
            lock(&tally).overflow();
            continue;
        }
        let (pool, tally) = (pool.clone(), tally.clone());
        in_flight.spawn(async move {
            let outcome = pool.request().await;
            lock(&tally).count(outcome, due.elapsed());
        });
    }
    lock(&tally).sending = started.elapsed();
    while in_flight.join_next().await.is_some() {}
}

async fn closed_loop(
    pool: Arc<Pool>,
    tally: Arc<Mutex<Tally>>,
    concurrency: usize,
    end: Option<Instant>,
    stopped: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (pool, tally, stopped) = (pool.clone(), tally.clone(), stopped.clone());
        clients.spawn(async move {
            while !*stopped.borrow() && end.is_none_or(|end| Instant::now() < end) {
                let sent = Instant::now();
                let outcome = pool.request().await;
                lock(&tally).count(outcome, sent.elapsed());
            }
        });
    }
    while clients.join_next().await.is_some() {}
    lock(&tally).sending = started.elapsed();
}
