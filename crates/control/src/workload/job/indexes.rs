//! Completion indexes, kept as runs: a Job may have more of them than anybody wants to hold one by one.

use std::collections::BTreeMap;
use std::fmt;

/// A set of indexes: the first of each run with the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeMap<i32, i32>);

impl Indexes {
    /// Reads `1,3-5,7`; what is no index below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let runs = text.split(',').filter_map(|run| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
            let last = last.min(completions - 1);
            (0 <= first && first <= last).then_some((first, last))
        });
        let mut indexes = Self::default();
        for (first, last) in runs {
            indexes.insert_run(first, last);
        }
        indexes
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        self.0.range(..=index).next_back().is_some_and(|(_, last)| index <= *last)
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.insert_run(index, index);
    }

    fn insert_run(&mut self, first: i32, last: i32) {
        let touching = |run: &(i32, i32)| run.0 <= last.saturating_add(1) && first <= run.1.saturating_add(1);
        let merged: Vec<_> = self.0.iter().map(|(first, last)| (*first, *last)).filter(touching).collect();
        let (mut first, mut last) = (first, last);
        for run in merged {
            self.0.remove(&run.0);
            first = first.min(run.0);
            last = last.max(run.1);
        }
        self.0.insert(first, last);
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many of these are also among the others.
    pub(super) fn shared_with(&self, others: &Self) -> i32 {
        let overlap = |(first, last): (&i32, &i32)| {
            let parts = others.0.iter().map(|(from, to)| (last.min(to) - first.max(from) + 1).max(0));
            parts.sum::<i32>()
        };
        self.0.iter().map(overlap).sum()
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

/// Three or more in a row are written as a run.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_and_written() {
        for (text, completions, expected) in [
            ("", 5, ""),
            ("1,3-5,7", 9, "1,3-5,7"),
            ("0,1", 9, "0,1"),
            ("0,1,2", 9, "0-2"),
            ("0-9", 3, "0-2"),
            ("4-2,x,-3,7", 9, "7"),
            ("3-5,1-7", 9, "1-7"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn one_by_one_they_become_runs() {
        let mut indexes = Indexes::default();
        for (index, expected) in [(5, "5"), (3, "3,5"), (4, "3-5"), (4, "3-5"), (9, "3-5,9"), (0, "0,3-5,9")] {
            indexes.insert(index);
            assert_eq!(indexes.to_string(), expected);
        }
        assert_eq!(indexes.total(), 5);
        assert!(indexes.contains(4) && indexes.contains(0) && !indexes.contains(6) && !indexes.contains(1));
        assert_eq!(indexes.shared_with(&Indexes::parse("4-9", 10)), 3);
    }
}
