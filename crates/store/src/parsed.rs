//! The newest parsed values of the process, so that what was just written is not parsed once for each of its readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// What the kept values weigh together, as bytes of JSON; their trees take about ten times as much.
const KEPT_BYTES: usize = 512 << 10;
/// A value larger than this would push too many others out.
const LARGEST: usize = 16 << 10;

static NEWEST: Mutex<Newest> = Mutex::new(Newest { values: VecDeque::new(), bytes: 0 });

#[derive(Default)]
struct Newest {
    values: VecDeque<(usize, Arc<Value>)>,
    bytes: usize,
}

/// Keeps a value until newer ones need its place.
pub(crate) fn keep(value: &Arc<Value>, bytes: usize) {
    // Dropped after the lock is given back: a tree takes its time to go.
    let gone = NEWEST.lock().unwrap_or_else(PoisonError::into_inner).push(value, bytes);
    drop(gone);
}

impl Newest {
    /// Answers with what had to go.
    fn push(&mut self, value: &Arc<Value>, bytes: usize) -> Vec<Arc<Value>> {
        if bytes > LARGEST {
            return Vec::new();
        }
        self.values.push_back((bytes, Arc::clone(value)));
        self.bytes += bytes;
        let mut gone = Vec::new();
        while self.bytes > KEPT_BYTES {
            let Some((bytes, value)) = self.values.pop_front() else { break };
            self.bytes -= bytes;
            gone.push(value);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kept_values_stay_below_their_bound_and_the_newest_stay() {
        let mut newest = Newest::default();
        let values: Vec<_> = (0..100).map(|i| Arc::new(json!(i))).collect();
        for value in &values {
            newest.push(value, LARGEST);
        }
        assert!(newest.bytes <= KEPT_BYTES);
        let kept: Vec<_> = newest.values.iter().map(|(_, value)| value.as_i64().unwrap()).collect();
        assert_eq!(kept, (100 - (KEPT_BYTES / LARGEST) as i64..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_value_pushes_nothing_out() {
        let mut newest = Newest::default();
        newest.push(&Arc::new(json!(1)), 10);
        newest.push(&Arc::new(json!(2)), LARGEST + 1);
        assert_eq!((newest.values.len(), newest.bytes), (1, 10));
    }
}
