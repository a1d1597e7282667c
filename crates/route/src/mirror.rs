//! Copies of requests: a share of what a rule, or one of its backendRefs, is asked for goes to another backend as well; and, as
//! long as a Rollout says so, a share of what its stable version is asked for goes to the candidate.

use sluice_model::gateway::{HttpRouteFilter, RequestMirror};
use sluice_model::rollout::Copies;

use crate::split::{Draws, Split};

/// The `type` of the filter.
pub(crate) const KIND: &str = "RequestMirror";
/// What `percent` is a part of.
const PERCENT: u32 = 100;
/// What the share of a Rollout is a part of.
const WHOLE: u32 = 10_000;

#[derive(Debug)]
pub struct Mirror {
    /// The slot of the backend that gets the copies; without one, the reference is invalid and nobody does.
    pub(crate) slot: Option<usize>,
    /// Between copying and not copying.
    pub(crate) split: Split,
}

/// Where in the split copying stands.
pub(crate) const COPY: usize = 0;

/// The mirrors among these filters, in order.
pub(crate) fn mirrors(filters: &[HttpRouteFilter]) -> impl Iterator<Item = &RequestMirror> {
    filters.iter().filter(|filter| filter.kind == KIND).filter_map(|filter| filter.request_mirror.as_ref())
}

impl Mirror {
    pub(crate) fn compile(from: &RequestMirror, slot: Option<usize>, split: u64) -> Self {
        let (part, whole) = match (&from.fraction, from.percent) {
            (Some(fraction), _) => (fraction.numerator, fraction.denominator.max(1)),
            (None, Some(percent)) => (percent, PERCENT),
            (None, None) => (1, 1),
        };
        let part = part.min(whole);
        Self { slot, split: Split::new(split, [part, whole - part]) }
    }
}

/// What of a Rollout's requests goes to both versions.
#[derive(Debug)]
pub(crate) struct Copying {
    /// Between copying and not copying.
    pub(crate) split: Split,
    methods: Box<[String]>,
}

impl Copying {
    /// `split_of` gives weights a split, with the place of the one before where that had the same.
    pub(crate) fn compile(from: &Copies, split_of: impl FnOnce(Vec<u32>) -> Split) -> Self {
        let share = from.share.min(WHOLE);
        Self { split: split_of(vec![share, WHOLE - share]), methods: from.methods.clone().into() }
    }

    /// Whether this request is to be copied. To be asked once for each.
    pub(crate) fn takes(&self, method: &str, draws: &mut Draws) -> bool {
        self.methods.iter().any(|known| known == method) && draws.draw(&self.split) == Some(COPY)
    }
}
