//! Named strategies as lists of steps.

use sluice_model::amount::Amount;
use sluice_model::rollout::{RolloutSpec, Step, Strategy, When};

use crate::SpecError;

/// What a canary does when its Rollout names no weights.
const CANARY_WEIGHTS: [&str; 3] = ["5%", "25%", "50%"];
const CANARY_HOLD: &str = "1m";
/// How long the checks watch a blue-green switch, with the old version still up.
const AFTER_SWITCH: &str = "1m";

/// The steps of the spec, and the field that an error about them shall name.
pub(crate) fn expand(spec: &RolloutSpec) -> Result<(Vec<Step>, &'static str), SpecError> {
    parameters_fit(spec)?;
    match (spec.strategy, spec.steps.is_empty()) {
        (None, false) => Ok((spec.steps.clone(), "steps")),
        (Some(strategy), true) => Ok((preset(strategy, spec)?, "plan")),
        (None, true) | (Some(_), false) => Err(SpecError::StrategyOrSteps),
    }
}

fn preset(strategy: Strategy, spec: &RolloutSpec) -> Result<Vec<Step>, SpecError> {
    let not_yet = |strategy| Err(SpecError::NotYet { strategy });
    match strategy {
        Strategy::Recreate => Ok(recreate(spec)),
        Strategy::Rolling => Ok(rolling(spec)),
        Strategy::BlueGreen => Ok(blue_green(spec)),
        Strategy::Canary => Ok(canary(spec)),
        Strategy::ABTest => not_yet("ABTest"),
        Strategy::Shadow => not_yet("Shadow"),
        Strategy::DarkLaunch => not_yet("DarkLaunch"),
        Strategy::ParallelRun => not_yet("ParallelRun"),
    }
}

fn parameters_fit(spec: &RolloutSpec) -> Result<(), SpecError> {
    let given = [
        ("rolling", spec.rolling.is_some(), Strategy::Rolling, "Rolling"),
        ("canary", spec.canary.is_some(), Strategy::Canary, "Canary"),
        ("blueGreen", spec.blue_green.is_some(), Strategy::BlueGreen, "BlueGreen"),
    ];
    for (field, present, owner, strategy) in given {
        if present && spec.strategy != Some(owner) {
            return Err(SpecError::WrongPreset { field, strategy });
        }
    }
    Ok(())
}

fn recreate(spec: &RolloutSpec) -> Vec<Step> {
    vec![
        Step { candidate: Some(Amount::Count(0)), stable: Some(Amount::Count(0)), ..named("stop") },
        Step { candidate: all(), stable: Some(Amount::Count(0)), checks: checks(spec, When::During), ..named("start") },
    ]
}

fn rolling(spec: &RolloutSpec) -> Vec<Step> {
    let checks = checks(spec, When::During);
    vec![Step { candidate: all(), stable: Some(Amount::Count(0)), checks, ..named("roll") }]
}

fn blue_green(spec: &RolloutSpec) -> Vec<Step> {
    let parameters = spec.blue_green.clone().unwrap_or_default();
    let during = checks(spec, When::During);
    let after = parameters.after.or_else(|| (!during.is_empty()).then(|| AFTER_SWITCH.to_owned()));
    vec![
        Step {
            candidate: all(),
            matches: parameters.preview,
            hold: parameters.before,
            checks: checks(spec, When::Before),
            ..named("preview")
        },
        Step { candidate: all(), traffic: all(), hold: after, checks: during, ..named("switch") },
    ]
}

fn canary(spec: &RolloutSpec) -> Vec<Step> {
    let parameters = spec.canary.clone().unwrap_or_default();
    let usual = || CANARY_WEIGHTS.iter().map(|weight| Amount::Text((*weight).to_owned())).collect();
    let weights: Vec<Amount> = if parameters.weights.is_empty() { usual() } else { parameters.weights };
    let hold = parameters.hold.unwrap_or_else(|| CANARY_HOLD.to_owned());
    let mut steps: Vec<Step> = weights
        .into_iter()
        .map(|weight| Step {
            name: Some(weight.to_string()),
            traffic: Some(weight),
            sticky: parameters.sticky.clone(),
            hold: Some(hold.clone()),
            checks: checks(spec, When::During),
            ..Step::default()
        })
        .collect();
    if let Some(first) = steps.first_mut() {
        first.checks.splice(0..0, checks(spec, When::Before));
    }
    steps
}

fn named(name: &str) -> Step {
    Step { name: Some(name.to_owned()), ..Step::default() }
}

fn all() -> Option<Amount> {
    Some(Amount::Text("100%".to_owned()))
}

/// A preset uses all checks that the Rollout has.
fn checks(spec: &RolloutSpec, at: When) -> Vec<String> {
    spec.checks.iter().filter(|check| check.at == at).map(|check| check.name.clone()).collect()
}
