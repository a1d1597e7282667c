//! Copies of requests: a share of what a rule, or one of its backendRefs, is asked for goes to another backend as well; and, as
//! long as a Rollout says so, a share of what its stable version is asked for goes to the candidate.

use std::sync::Arc;

use sluice_compare::Rules;
use sluice_model::amount::Share;
use sluice_model::gateway::{HttpRouteFilter, RequestMirror};
use sluice_model::rollout::{Compare, Exposure};

use crate::facts::ObjectKey;
use crate::split::{Draws, Split};

/// The `type` of the filter.
pub(crate) const KIND: &str = "RequestMirror";
/// What `percent` is a part of.
const PERCENT: u32 = 100;
/// What the share of a Rollout is a part of.
const WHOLE: u32 = 10_000;
/// Of the requests that are compared, so many go to the stable version twice when nobody says: 5 %.
const USUAL_NOISE: u32 = 500;

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
    /// Where the answers are compared.
    pub(crate) comparison: Option<(Arc<Comparison>, Split)>,
}

/// What answers are compared by, and under what.
#[derive(Debug, PartialEq)]
pub struct Comparison {
    pub rollout: ObjectKey,
    /// Hashes of the two versions.
    pub stable: String,
    pub candidate: String,
    pub terms: Compare,
    pub rules: Rules,
}

impl Comparison {
    /// `None` when the terms cannot be read, which the Rollout's owner is told elsewhere.
    fn compile(rollout: &ObjectKey, exposure: &Exposure, terms: &Compare) -> Option<Self> {
        let candidate = exposure.candidate.clone()?;
        let (stable, rules) = (exposure.stable.clone(), Rules::read(terms).ok()?);
        Some(Self { rollout: rollout.clone(), stable, candidate, terms: terms.clone(), rules })
    }
}

impl Copying {
    /// `split_of` gives weights a split, with the place of the one before where that had the same.
    pub(crate) fn compile(
        rollout: &ObjectKey,
        exposure: &Exposure,
        previous: Option<&Self>,
        mut split_of: impl FnMut(Vec<u32>, Option<&Split>) -> Split,
    ) -> Option<Self> {
        let from = exposure.copies.as_ref()?;
        let parts = |share: u32| vec![share.min(WHOLE), WHOLE - share.min(WHOLE)];
        let before = previous.and_then(|copying| copying.comparison.as_ref());
        let comparison = from.compare.as_ref().and_then(|terms| {
            let made = Comparison::compile(rollout, exposure, terms)?;
            let twice = terms.noise.as_ref().map_or(USUAL_NOISE, |noise| noise.share().map_or(0, Share::hundredths));
            let split = split_of(parts(twice), before.map(|(_, split)| split));
            // The same stays the same, so that it can be known by where it lies.
            let known = before.map(|(known, _)| known).filter(|known| ***known == made);
            Some((known.cloned().unwrap_or_else(|| Arc::new(made)), split))
        });
        let split = split_of(parts(from.share), previous.map(|copying| &copying.split));
        Some(Self { split, methods: from.methods.clone().into(), comparison })
    }

    /// Whether this request is to be copied. To be asked once for each.
    pub(crate) fn takes(&self, method: &str, draws: &mut Draws) -> bool {
        self.methods.iter().any(|known| known == method) && draws.draw(&self.split) == Some(COPY)
    }
}
