//! What the user wants, read and checked once: from here on nothing in it can be wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use sluice_compare::RuleError;
use sluice_model::amount::{Amount, AmountError, Pods, Share};
use sluice_model::duration::{self, DurationError};
use sluice_model::gateway::HttpRouteMatch;
use sluice_model::rollout::{
    self as model, Copies, HttpCheck, NoData, OnFail, Release, RolloutSpec, Sticky, Strategy, When,
};
use sluice_model::sticky::{Unit, UnitError};
use sluice_stats::Limit;

use crate::replicas::{Split, by_replicas};
use crate::{Fences, LimitError, limits, observed};
use crate::{copies, presets};

/// A Rollout's spec, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    pub shift: Shift,
    /// Absolute steps; the last one gives the candidate everything.
    pub steps: Vec<Step>,
    pub checks: Vec<Check>,
    /// How long the pods of the replaced version stay up.
    pub keep_old: Duration,
    /// How long a version that no gateway chooses any more is left alone before it shrinks.
    pub drain: Duration,
    /// Surge and unavailability, where the spec gives them.
    pub surge: Option<Pods>,
    pub unavailable: Option<Pods>,
}

/// What moves the traffic from one version to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// Gateways split it by weight and match; pods follow.
    Routes,
    /// Every pod takes an equal part, so the number of pods is the weight.
    Replicas,
    /// As `Replicas`, and pods of both versions never exist at the same time.
    Recreate,
}

/// The whole desired situation of both versions, and what must hold before it is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: String,
    pub candidate: Size,
    pub stable: Size,
    pub traffic: Share,
    pub matches: Vec<HttpRouteMatch>,
    /// Its texts can be read.
    pub sticky: Option<Sticky>,
    pub copies: Option<Copies>,
    pub hold: Hold,
    /// Names of checks; each exists.
    pub checks: Vec<String>,
}

impl Step {
    /// The requests that reach the candidate, copies included.
    fn load(&self) -> Share {
        let copied = self.copies.as_ref().map_or(Share::NONE, |copies| Share::from_hundredths(copies.share));
        Share::from_hundredths(self.traffic.hundredths() + copied.of_rounded_up(self.traffic.rest().hundredths()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What the traffic of the step needs.
    ByTraffic,
    Pods(Pods),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    For(Duration),
    Approval,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub name: String,
    pub at: When,
    pub probe: Probe,
    pub every: Duration,
    /// So many passes in a row are needed.
    pub successes: u32,
    /// The n-th failure is the end.
    pub failures: u32,
    pub no_data: NoData,
    pub on_fail: OnFail,
    pub dry_run: bool,
}

/// Where the measurement comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    Http(HttpCheck),
    Metric(Limit),
}

/// Between two measurements when the check does not say: a look at a gateway's counters costs nothing, a request does.
const METRIC_EVERY: Duration = Duration::from_secs(1);
const HTTP_EVERY: Duration = Duration::from_secs(2);
/// The shortest pause between two measurements.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);
/// The most steps and checks of one Rollout.
const MOST_STEPS: usize = 50;
const MOST_CHECKS: usize = 32;

/// Why a Rollout spec was refused. The text begins with the path of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("spec: exactly one of `strategy` and `steps` must be set")]
    StrategyOrSteps,
    #[error(
        "spec.strategy: `{strategy}` is not in this version of Sluice; use Recreate, Rolling, BlueGreen, Canary, or steps"
    )]
    NotYet { strategy: &'static str },
    #[error("spec.{field}: is for the strategy {strategy} only")]
    WrongPreset { field: &'static str, strategy: &'static str },
    #[error("spec.target.kind: `{kind}` cannot be released in this version of Sluice; use Deployment")]
    TargetKind { kind: String },
    #[error("spec.routes[{index}].kind: `{kind}` cannot be split in this version of Sluice; use HTTPRoute or Ingress")]
    RouteKind { index: usize, kind: String },
    #[error("{path}: {source}")]
    Amount { path: String, source: AmountError },
    #[error("{path}: {source}")]
    Duration { path: String, source: DurationError },
    #[error("{path}.{source}")]
    Limit { path: String, source: LimitError },
    #[error("{path}: {source}")]
    Unit { path: String, source: UnitError },
    #[error("{path}: only a cookie has an age, `{by}` has none")]
    AgeOfNoCookie { path: String, by: String },
    #[error(
        "{path}: `{method}` is no method of requests that can be copied; use GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE"
    )]
    Method { path: String, method: String },
    #[error("{path}: there is nothing to copy; set `mirror` or `compare` as well, or leave it out")]
    MethodsOfNothing { path: String },
    #[error("{path}: `compare` copies its sample already; leave `mirror` out")]
    MirrorAndCompare { path: String },
    #[error("{path}.{source}")]
    Rule { path: String, source: RuleError },
    #[error("{path}: `{traffic}` is less than the {before} of the step before; list the steps in rising order")]
    TrafficFalls { path: String, traffic: Share, before: Share },
    #[error("{path}: a step with traffic 100% needs all pods of the candidate; leave `candidate` out or write 100%")]
    FullTrafficFewPods { path: String },
    #[error("{path}: 0 pods cannot take traffic; leave `{field}` out or ask for at least 1")]
    TrafficWithoutPods { path: String, field: &'static str },
    #[error("{path}: there is no check named `{name}` in spec.checks")]
    UnknownCheck { path: String, name: String },
    #[error("{path}: `{name}` is the name of two checks")]
    CheckTwice { path: String, name: String },
    #[error("{path}: exactly one of `http` and `metric` must be set")]
    OneProbe { path: String },
    #[error("{path}: {text} is too often; 100ms is the shortest pause between two measurements", text = duration::show(*.every))]
    TooOften { path: String, every: Duration },
    #[error("{path}: must be at least 1")]
    Zero { path: String },
    #[error("{path}: {value} needs `spec.routes`: without them every ready pod takes an equal part of the traffic")]
    NeedsRoutes { path: String, value: &'static str },
    #[error("{path}: a metric is measured on the candidate's traffic; use `at: during`")]
    MetricBefore { path: String },
    #[error("{path}: {count} are too many, {most} are allowed")]
    TooMany { path: &'static str, count: usize, most: usize },
    #[error("spec.rolling: `surge` and `unavailable` cannot both be 0")]
    NoRoomToRoll,
}

impl Desired {
    /// Reads the spec. All mistakes are reported at once.
    pub fn read(spec: &RolloutSpec) -> Result<Self, Vec<SpecError>> {
        let mut errors = Vec::new();
        check_kinds(spec, &mut errors);
        let (steps, from) = match presets::expand(spec) {
            Ok(expanded) => expanded,
            Err(error) => {
                errors.push(error);
                return Err(errors);
            }
        };
        let shift = shift(spec, &steps);
        let checks = read_checks(spec, shift, &mut errors);
        let names: BTreeSet<&str> = spec.checks.iter().map(|check| check.name.as_str()).collect();
        let mut read = read_steps(&steps, from, &names, &mut errors);
        complete(&mut read, shift);
        if spec.release == Release::Manual {
            read.insert(0, waiting_for_a_person(&read, shift));
        }
        check_steps(&read, shift, from, &mut errors);
        let rolling = spec.rolling.clone().unwrap_or_default();
        let surge = optional(&mut errors, "spec.rolling.surge", rolling.surge.as_ref(), Amount::pods);
        let unavailable = optional(&mut errors, "spec.rolling.unavailable", rolling.unavailable.as_ref(), Amount::pods);
        if [surge, unavailable].iter().all(|fence| fence.is_some_and(is_zero)) {
            errors.push(SpecError::NoRoomToRoll);
        }
        if spec.keep_old.is_some() && shift != Shift::Routes {
            errors.push(SpecError::NeedsRoutes { path: "spec.keepOld".to_owned(), value: "an idle version" });
        }
        let keep = spec.keep_old.as_ref().map(|keep| keep.duration.as_str());
        let keep_old = read_duration(&mut errors, "spec.keepOld.for", keep).unwrap_or_default();
        let drain = read_duration(&mut errors, "spec.drain", spec.drain.as_deref()).unwrap_or_default();
        if errors.is_empty() {
            Ok(Self { shift, steps: read, checks, keep_old, drain, surge, unavailable })
        } else {
            Err(errors)
        }
    }

    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Pods of both versions while `step` holds.
    pub fn split(&self, step: &Step, replicas: u32, fences: Fences) -> Split {
        let pods = |size: Size| match size {
            Size::ByTraffic => None,
            Size::Pods(Pods::Count(count)) => Some(count),
            Size::Pods(Pods::Share(share)) => Some(share.of_rounded_up(replicas)),
        };
        let (candidate, stable) = (pods(step.candidate), pods(step.stable));
        match self.shift {
            Shift::Routes => Split {
                candidate: candidate.unwrap_or_else(|| step.load().of_rounded_up(replicas).clamp(1, replicas.max(1))),
                stable: stable.unwrap_or(replicas),
            },
            Shift::Replicas | Shift::Recreate => match (candidate, stable) {
                (None, None) => by_replicas(replicas, step.traffic, fences.surge > 0),
                (Some(candidate), None) => Split { candidate, stable: replicas.saturating_sub(candidate) },
                (None, Some(stable)) => Split { candidate: replicas.saturating_sub(stable), stable },
                (Some(candidate), Some(stable)) => Split { candidate, stable },
            },
        }
    }

    /// The fences in pods: the spec's own, else those of the workload. The surge is rounded up and the unavailable
    /// part down; when nothing is left to move, one pod may be missing.
    pub fn fences(&self, replicas: u32, workload: observed::Fences) -> Fences {
        let surge = self.surge.map_or(workload.surge, |surge| match surge {
            Pods::Count(count) => count,
            Pods::Share(share) => share.of_rounded_up(replicas),
        });
        let unavailable = self.unavailable.map_or(workload.unavailable, |unavailable| match unavailable {
            Pods::Count(count) => count,
            Pods::Share(share) => share.of_rounded_down(replicas),
        });
        match (self.shift, surge, unavailable) {
            (Shift::Recreate, _, _) => Fences { surge: 0, unavailable: replicas },
            (_, 0, 0) => Fences { surge: 0, unavailable: 1 },
            _ => Fences { surge, unavailable: unavailable.min(replicas) },
        }
    }
}

/// A step without any pod only makes sense where versions must not overlap.
fn shift(spec: &RolloutSpec, steps: &[model::Step]) -> Shift {
    let zero = |amount: &Option<Amount>| amount.as_ref().is_some_and(|amount| amount.pods().is_ok_and(is_zero));
    let stops = steps.iter().any(|step| zero(&step.candidate) && zero(&step.stable));
    match spec.strategy {
        _ if stops => Shift::Recreate,
        Some(Strategy::Rolling) => Shift::Replicas,
        _ if spec.routes.is_empty() => Shift::Replicas,
        _ => Shift::Routes,
    }
}

/// What the gateway serves, with the shares of a Rollout behind it.
const ROUTE_KINDS: [&str; 2] = ["HTTPRoute", "Ingress"];

fn check_kinds(spec: &RolloutSpec, errors: &mut Vec<SpecError>) {
    if spec.target.kind != "Deployment" {
        errors.push(SpecError::TargetKind { kind: spec.target.kind.clone() });
    }
    for (index, route) in spec.routes.iter().enumerate() {
        if !ROUTE_KINDS.contains(&route.kind.as_str()) {
            errors.push(SpecError::RouteKind { index, kind: route.kind.clone() });
        }
    }
    for (path, count, most) in
        [("spec.steps", spec.steps.len(), MOST_STEPS), ("spec.checks", spec.checks.len(), MOST_CHECKS)]
    {
        if count > most {
            errors.push(SpecError::TooMany { path, count, most });
        }
    }
}

fn read_steps(steps: &[model::Step], from: &str, checks: &BTreeSet<&str>, errors: &mut Vec<SpecError>) -> Vec<Step> {
    let read = |(index, step): (usize, &model::Step)| {
        let path = format!("spec.{from}[{index}]");
        for (position, name) in step.checks.iter().enumerate() {
            if !checks.contains(name.as_str()) {
                let path = format!("{path}.checks[{position}]");
                errors.push(SpecError::UnknownCheck { path, name: name.clone() });
            }
        }
        let traffic =
            optional(errors, &format!("{path}.traffic"), step.traffic.as_ref(), Amount::share).unwrap_or_default();
        let mut size = |field: &str, amount: Option<&Amount>| {
            optional(errors, &format!("{path}.{field}"), amount, Amount::pods).map_or(Size::ByTraffic, Size::Pods)
        };
        let (candidate, stable) = (size("candidate", step.candidate.as_ref()), size("stable", step.stable.as_ref()));
        check_sticky(errors, &format!("{path}.sticky"), step.sticky.as_ref());
        let copies = copies::read(step, &path, errors);
        let hold = read_hold(errors, &format!("{path}.hold"), step.hold.as_deref());
        Step {
            name: step.name.clone().unwrap_or_else(|| traffic.to_string()),
            candidate,
            stable,
            traffic,
            matches: step.matches.clone(),
            sticky: step.sticky.clone(),
            copies,
            hold,
            checks: step.checks.clone(),
        }
    };
    steps.iter().enumerate().map(read).collect()
}

fn check_sticky(errors: &mut Vec<SpecError>, path: &str, sticky: Option<&Sticky>) {
    let Some(Sticky { by, max_age }) = sticky else { return };
    let age = format!("{path}.maxAge");
    read_duration(errors, &age, max_age.as_deref());
    match by.parse() {
        Ok(Unit::Cookie(_)) => {}
        Ok(Unit::Header(_) | Unit::Claim(_)) if max_age.is_none() => {}
        Ok(_) => errors.push(SpecError::AgeOfNoCookie { path: age, by: by.clone() }),
        Err(source) => errors.push(SpecError::Unit { path: format!("{path}.by"), source }),
    }
}

/// Adds the last step, in which the candidate gets everything, where the user left it out.
fn complete(steps: &mut Vec<Step>, shift: Shift) {
    let all = |size: Size| matches!(size, Size::ByTraffic | Size::Pods(Pods::Share(Share::ALL)));
    let full = |step: &Step| match shift {
        Shift::Routes => step.traffic == Share::ALL,
        Shift::Replicas | Shift::Recreate => {
            (step.traffic == Share::ALL || step.candidate == Size::Pods(Pods::Share(Share::ALL))) && all(step.candidate)
        }
    };
    if steps.last().is_some_and(full) {
        return;
    }
    steps.push(Step {
        name: "full".to_owned(),
        candidate: Size::ByTraffic,
        stable: Size::ByTraffic,
        traffic: Share::ALL,
        matches: Vec::new(),
        sticky: None,
        copies: None,
        hold: Hold::For(Duration::ZERO),
        checks: Vec::new(),
    });
}

/// The first step of `release: Manual`: the pods of the first real step are up where they can be without traffic.
fn waiting_for_a_person(steps: &[Step], shift: Shift) -> Step {
    let first = steps.first().expect("`complete` leaves at least one step");
    let (candidate, stable) = match shift {
        Shift::Routes => (first.candidate, first.stable),
        Shift::Replicas | Shift::Recreate => (Size::ByTraffic, Size::ByTraffic),
    };
    Step {
        name: "deployed".to_owned(),
        candidate,
        stable,
        traffic: Share::NONE,
        matches: Vec::new(),
        sticky: None,
        copies: None,
        hold: Hold::Approval,
        checks: Vec::new(),
    }
}

/// What only shows when the steps are seen together.
fn check_steps(steps: &[Step], shift: Shift, from: &str, errors: &mut Vec<SpecError>) {
    let mut before = Share::NONE;
    for (index, step) in steps.iter().enumerate() {
        let path = |field: &str| format!("spec.{from}[{index}].{field}");
        if step.traffic < before {
            errors.push(SpecError::TrafficFalls { path: path("traffic"), traffic: step.traffic, before });
        }
        before = before.max(step.traffic);
        let everything = matches!(step.candidate, Size::ByTraffic | Size::Pods(Pods::Share(Share::ALL)));
        if shift == Shift::Routes && step.traffic == Share::ALL && !everything && !zero_size(step.candidate) {
            errors.push(SpecError::FullTrafficFewPods { path: path("candidate") });
        }
        let exposed = step.traffic > Share::NONE || !step.matches.is_empty() || step.copies.is_some();
        if shift == Shift::Routes && exposed && zero_size(step.candidate) {
            errors.push(SpecError::TrafficWithoutPods { path: path("candidate"), field: "candidate" });
        }
        if shift == Shift::Routes && step.traffic < Share::ALL && zero_size(step.stable) {
            errors.push(SpecError::TrafficWithoutPods { path: path("stable"), field: "stable" });
        }
        if shift != Shift::Routes && !step.matches.is_empty() {
            errors.push(SpecError::NeedsRoutes { path: path("match"), value: "a match" });
        }
        if shift != Shift::Routes && step.sticky.is_some() {
            errors.push(SpecError::NeedsRoutes { path: path("sticky"), value: "a sticky split" });
        }
        if shift != Shift::Routes
            && let Some(copies) = &step.copies
        {
            let (field, value) =
                if copies.compare.is_some() { ("compare", "a comparison") } else { ("mirror", "a mirror") };
            errors.push(SpecError::NeedsRoutes { path: path(field), value });
        }
    }
}

fn read_checks(spec: &RolloutSpec, shift: Shift, errors: &mut Vec<SpecError>) -> Vec<Check> {
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for (index, check) in spec.checks.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        if !names.insert(check.name.as_str()) {
            errors.push(SpecError::CheckTwice { path: format!("{path}.name"), name: check.name.clone() });
        }
        if shift != Shift::Routes && check.at == When::Before {
            errors.push(SpecError::NeedsRoutes { path: format!("{path}.at"), value: "before" });
        }
        if let Some(check) = read_check(check, &path, errors) {
            read.push(check);
        }
    }
    read
}

fn read_check(check: &model::Check, path: &str, errors: &mut Vec<SpecError>) -> Option<Check> {
    let (probe, usual) = match (&check.http, &check.metric) {
        (Some(http), None) => (Probe::Http(http.clone()), HTTP_EVERY),
        (None, Some(metric)) => {
            if check.at == When::Before {
                errors.push(SpecError::MetricBefore { path: format!("{path}.at") });
            }
            match limits::read(metric) {
                Ok(limit) => (Probe::Metric(limit), METRIC_EVERY),
                Err(source) => {
                    errors.push(SpecError::Limit { path: format!("{path}.metric"), source });
                    return None;
                }
            }
        }
        _ => {
            errors.push(SpecError::OneProbe { path: path.to_owned() });
            return None;
        }
    };
    let every = read_duration(errors, &format!("{path}.every"), check.every.as_deref()).unwrap_or(usual);
    if every < SHORTEST_EVERY {
        errors.push(SpecError::TooOften { path: format!("{path}.every"), every });
    }
    for (field, count) in [("successes", check.successes), ("failures", check.failures)] {
        if count == Some(0) {
            errors.push(SpecError::Zero { path: format!("{path}.{field}") });
        }
    }
    Some(Check {
        name: check.name.clone(),
        at: check.at,
        probe,
        every,
        successes: check.successes.unwrap_or(1),
        failures: check.failures.unwrap_or(1),
        no_data: check.no_data,
        on_fail: check.on_fail,
        dry_run: check.dry_run,
    })
}

fn read_hold(errors: &mut Vec<SpecError>, path: &str, hold: Option<&str>) -> Hold {
    match hold {
        Some("approval") => Hold::Approval,
        other => Hold::For(read_duration(errors, path, other).unwrap_or_default()),
    }
}

fn read_duration(errors: &mut Vec<SpecError>, path: &str, text: Option<&str>) -> Option<Duration> {
    let read = duration::parse(text?);
    read.map_err(|source| errors.push(SpecError::Duration { path: path.to_owned(), source })).ok()
}

pub(crate) fn optional<T>(
    errors: &mut Vec<SpecError>,
    path: &str,
    amount: Option<&Amount>,
    read: impl Fn(&Amount) -> Result<T, AmountError>,
) -> Option<T> {
    read(amount?).map_err(|source| errors.push(SpecError::Amount { path: path.to_owned(), source })).ok()
}

fn is_zero(pods: Pods) -> bool {
    matches!(pods, Pods::Count(0) | Pods::Share(Share::NONE))
}

fn zero_size(size: Size) -> bool {
    matches!(size, Size::Pods(pods) if is_zero(pods))
}
