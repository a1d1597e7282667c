//! The number of a write.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// One counter numbers all writes of a store. Prints as a plain decimal, as clients expect of a resourceVersion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every write; a watch after it asks for the whole history.
    pub const ZERO: Self = Self(0);

    /// What an empty store answers with: never 0, which clients read as "anything".
    pub(crate) const FIRST: Self = Self(1);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}
