//! Histograms and the tests that compare two versions.

mod histogram;
mod limit;
mod sequential;
mod snapshot;

pub use histogram::{BUCKETS, Histogram, MAX_MICROS, bucket_of, upper_bound_micros};
pub use limit::{Limit, Look, MIN_REQUESTS, Metric, Verdict, Watch};
pub use sequential::{Count, FALSE_ALARMS, Sequential, evidence_above, interval, is_alarm};
pub use snapshot::VersionSnapshot;
