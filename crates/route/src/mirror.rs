//! Copies of requests: a share of what a rule, or one of its backendRefs, is asked for goes to another backend as well.

use sluice_model::gateway::{HttpRouteFilter, RequestMirror};

use crate::split::Split;

/// The `type` of the filter.
pub(crate) const KIND: &str = "RequestMirror";
/// What `percent` is a part of.
const PERCENT: u32 = 100;

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
