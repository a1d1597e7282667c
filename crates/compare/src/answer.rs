//! An answer as far as it is kept to be compared.

use sha2::{Digest as _, Sha256};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Body,
}

impl Answer {
    /// The first value of this header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        values.next().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Kept(Vec<u8>),
    /// Longer than what is kept.
    Fingerprint {
        length: u64,
        sha256: [u8; 32],
    },
}

/// Takes a body in as it passes: kept up to a bound, known by its fingerprint beyond.
#[derive(Debug)]
pub struct Tee {
    most: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Keeping(Vec<u8>),
    Hashing { length: u64, hash: Box<Sha256> },
}

impl Tee {
    /// Keeps bodies of up to `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, state: State::Keeping(Vec::new()) }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Keeping(kept) if kept.len() + bytes.len() <= self.most => kept.extend_from_slice(bytes),
            State::Keeping(kept) => {
                let mut hash = Box::new(Sha256::new());
                hash.update(&*kept);
                hash.update(bytes);
                self.state = State::Hashing { length: (kept.len() + bytes.len()) as u64, hash };
            }
            State::Hashing { length, hash } => {
                *length += bytes.len() as u64;
                hash.update(bytes);
            }
        }
    }

    /// How much has passed so far.
    pub fn passed(&self) -> u64 {
        match &self.state {
            State::Keeping(kept) => kept.len() as u64,
            State::Hashing { length, .. } => *length,
        }
    }

    pub fn finish(self) -> Body {
        match self.state {
            State::Keeping(kept) => Body::Kept(kept),
            State::Hashing { length, hash } => Body::Fingerprint { length, sha256: hash.finalize().into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_a_body_is_cut_it_comes_to_the_same(body in prop::collection::vec(any::<u8>(), 0..64), cuts in prop::collection::vec(1..9usize, 1..20)) {
            let whole = |parts: &mut dyn Iterator<Item = &[u8]>| {
                let mut tee = Tee::new(16);
                parts.for_each(|part| tee.push(part));
                (tee.passed(), tee.finish())
            };
            let mut rest = &body[..];
            let mut parts = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, left) = rest.split_at((*cut).min(rest.len()));
                parts.push(part);
                rest = left;
            }
            let found = whole(&mut parts.into_iter());
            prop_assert_eq!(&found, &whole(&mut std::iter::once(&body[..])));
            prop_assert_eq!(found.0, body.len() as u64);
            prop_assert_eq!(matches!(found.1, Body::Kept(_)), body.len() <= 16);
        }
    }
}
