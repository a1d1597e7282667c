//! Histograms and the tests that compare two versions.

mod histogram;
mod snapshot;

pub use histogram::{BUCKETS, Histogram, MAX_MICROS, bucket_of, upper_bound_micros};
pub use snapshot::VersionSnapshot;
