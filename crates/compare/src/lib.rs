//! Two answers to one request held against each other, and what many such comparisons come to.
//!
//! [`Rules`] say what counts, [`compare`] holds two [`Answer`]s against each other, and a [`Book`] adds up what was found. Whatever
//! can be seen of an answer afterwards has gone through redaction first. Everything has a bound: bodies are kept up to a size and
//! known by a fingerprint beyond it, and a comparison, like a book, stops taking in more when it is full.

mod answer;
mod book;
mod decode;
mod diff;
mod endpoint;
mod json;
mod path;
mod redact;
mod report;
mod rules;

pub use answer::{Answer, Body, Tee};
pub use book::{Book, Sample};
pub use diff::{Comparison, Difference, Kind, compare};
pub use endpoint::endpoint;
pub use report::{EndpointReport, Example, PathReport, Report, StatusPair, Verdict};
pub use rules::{RuleError, Rules};
