//! What the server has answered, counted.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};

/// What somebody else counts in this process.
pub trait Measures: Send + Sync {
    /// Families of metrics in the text format of Prometheus.
    fn text(&self) -> String;
}

/// The methods that are told apart; all others are one.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OTHER"];
/// Answers by the hundreds of their codes, from 1xx.
const CLASSES: usize = 5;

/// Counters of answers by method and class of code.
#[derive(Debug, Default)]
pub(crate) struct Meter([[AtomicU64; CLASSES]; METHODS.len()]);

impl Meter {
    pub(crate) fn count(&self, method: &Method, code: StatusCode) {
        let row = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(code.as_u16() / 100).clamp(1, CLASSES) - 1;
        self.0[row][class].fetch_add(1, Ordering::Relaxed);
    }

    /// The exposition of all counters, with the newest revision of the store.
    pub(crate) fn text(&self, revision: u64) -> String {
        let mut out = String::from("# TYPE sluice_api_requests_total counter\n");
        for (method, row) in METHODS.iter().zip(&self.0) {
            for (class, counter) in (1..).zip(row) {
                let count = counter.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = format!("method=\"{method}\",code=\"{class}xx\"");
                    writeln!(out, "sluice_api_requests_total{{{labels}}} {count}")
                        .expect("writing to memory cannot fail");
                }
            }
        }
        writeln!(out, "# TYPE sluice_store_revision gauge\nsluice_store_revision {revision}")
            .expect("writing to memory cannot fail");
        out
    }
}
