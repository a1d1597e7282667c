//! What a step copies to the candidate, read.

use sluice_compare::Rules;
use sluice_model::amount::{Amount, Share};
use sluice_model::rollout::{Copies, Step};

use crate::SpecError;
use crate::desired::optional;

/// Those that change nothing by their definition, and whose answers have something to say.
const SAFE_METHODS: [&str; 2] = ["GET", "HEAD"];
/// Those that a person may ask for.
const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];

/// `None` where the step copies nothing. `path` is the step's.
pub(crate) fn read(step: &Step, path: &str, errors: &mut Vec<SpecError>) -> Option<Copies> {
    let mirrored = optional(errors, &format!("{path}.mirror"), step.mirror.as_ref(), Amount::share);
    for (at, method) in step.methods.iter().enumerate().filter(|(_, method)| !METHODS.contains(&method.as_str())) {
        errors.push(SpecError::Method { path: format!("{path}.methods[{at}]"), method: method.clone() });
    }
    if step.mirror.is_none() && step.compare.is_none() && !step.methods.is_empty() {
        errors.push(SpecError::MethodsOfNothing { path: format!("{path}.methods") });
    }
    if step.mirror.is_some() && step.compare.is_some() {
        errors.push(SpecError::MirrorAndCompare { path: format!("{path}.mirror") });
    }
    if let Some(Err(wrong)) = step.compare.as_ref().map(Rules::read) {
        let rules = wrong.into_iter().map(|source| SpecError::Rule { path: format!("{path}.compare"), source });
        errors.extend(rules);
    }
    let sampled = step.compare.as_ref().and_then(|compare| compare.sample.share().ok());
    let share = sampled.or(mirrored).filter(|share| *share > Share::NONE)?;
    let methods = match &step.methods[..] {
        [] => SAFE_METHODS.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    Some(Copies { share: share.hundredths(), methods, compare: step.compare.clone().map(Box::new) })
}

/// `20%`, or `20% of GET, POST` where it is not the safe methods that are copied.
pub(crate) fn describe(copies: &Copies) -> String {
    let share = Share::from_hundredths(copies.share);
    if copies.methods == SAFE_METHODS { share.to_string() } else { format!("{share} of {}", copies.methods.join(", ")) }
}
