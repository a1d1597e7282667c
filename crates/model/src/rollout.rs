//! The Rollout: how two versions of a workload share capacity and traffic, step by step.
//!
//! Group `sluice.dev`, version `v1alpha1`. Only shapes live here; `release` gives them meaning.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::amount::Amount;
use crate::gateway::HttpRouteMatch;

pub const GROUP: &str = "sluice.dev";
pub const VERSION: &str = "v1alpha1";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    pub target: Target,
    /// The routes whose traffic is split; none means that weights are approximated by replica counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRef>,
    /// A preset that expands into steps; exactly one of `strategy` and `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub release: Release,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Parameters of the preset of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old: Option<KeepOld>,
    /// A duration such as `30s`: how long in-flight requests of a withdrawn version may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    #[serde(default = "deployment")]
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteRef {
    #[serde(default = "http_route")]
    pub kind: String,
    pub name: String,
    /// The name of one rule; all rules otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    Recreate,
    Rolling,
    BlueGreen,
    Canary,
    ABTest,
    Shadow,
    DarkLaunch,
    ParallelRun,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    #[default]
    Auto,
    /// Every deploy stops at no exposure until somebody promotes it.
    Manual,
}

/// The whole desired situation of both versions, and what must hold before it is left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Amount>,
    /// The candidate's share, `0%` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Amount>,
    /// Requests that always go to the candidate.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    /// Whose requests stay with one version while the candidate's share rises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Of the requests that the stable version answers, so many go to the candidate as well, whose answers are thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Amount>,
    /// A part of the requests goes to both versions, and what they answer is compared; the stable version's answers go out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// Methods of requests that may be copied, by `mirror` or `compare`; `GET` and `HEAD` when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// A duration such as `10m`, or `approval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Names of checks that run in this step and must pass to leave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

/// A split by who asks instead of by turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sticky {
    /// `header:NAME`, `cookie:NAME` or `claim:NAME`.
    pub by: String,
    /// A duration such as `14d`: how long browsers keep a cookie that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// A parallel run: what both versions answer to a request is held against each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compare {
    /// Of the requests that the stable version answers, so many are compared.
    pub sample: Amount,
    /// Of these, so many go to the stable version twice, which shows what differs anyway; `5%` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<Amount>,
    /// `json:$.PATH`, `header:NAME`, `order:$.PATH` (a list whose order says nothing), `status`, `body`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// The headers that count, or `*` for all; `content-type` and `location` when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Numbers are equal that differ by this part of the larger one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Amount>,
    /// Headers and fields whose values nobody may see, besides those with names of secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Of requests, net of noise, so many may differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_mismatch: Option<Amount>,
    /// Fewer requests than this say nothing good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rolling {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Amount>,
}

/// `weights` in rising order, each held for `hold` (a duration or `approval`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Canary {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlueGreen {
    /// Requests that reach the new version before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preview: Vec<HttpRouteMatch>,
    /// The hold before the switch: a duration or `approval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The hold after the switch, in which checks still lead back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeepOld {
    /// A duration such as `30m`.
    #[serde(rename = "for")]
    pub duration: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    pub name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub at: When,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricCheck>,
    /// A duration such as `5s` between two measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// So many passes in a row end the check well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successes: Option<u32>,
    /// The n-th failure ends the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_data: NoData,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_fail: OnFail,
    #[serde(default, skip_serializing_if = "is_default")]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Before the candidate gets the traffic of the step.
    Before,
    #[default]
    During,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    #[serde(default = "slash")]
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricCheck {
    #[serde(default)]
    pub source: MetricSource,
    /// `error-rate`, `p50`, `p90`, `p95`, `p99`, `throughput`.
    pub name: String,
    #[serde(default)]
    pub versus: Versus,
    /// `1%` (a share, or relative to the stable version), `250ms`, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Amount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricSource {
    #[default]
    Gateway,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Versus {
    #[default]
    Threshold,
    Stable,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoData {
    #[default]
    Wait,
    Pass,
    Fail,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFail {
    #[default]
    Rollback,
    Pause,
}

/// Written by the release controller alone, and its whole memory: nothing else survives its restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `metadata.generation` of the workload whose template this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// One line: what was decided last, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Revision>,
    /// The revision that a failed check or an abort turned down; a re-apply of the same template does not start it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejection>,
    /// The version that was stable before the present one: what `undo` returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Revision>,
    /// Until then the pods of the previous version stay up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// The present step of the plan, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The step for people: `2/4 canary`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// The candidate's share for people: `12.5%`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub weight: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_started_at: Option<Timestamp>,
    /// When the candidate last got nearer to the size it should have; the progress deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed_at: Option<Timestamp>,
    /// When the routes of this step were acknowledged by every gateway: the start of its hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_at: Option<Timestamp>,
    /// A person has ended the hold of this step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approved: bool,
    /// A person has promoted: no more holds and checks, only pods and routes are waited for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub promoting: bool,
    /// Why nothing moves on until `resume`, by a person or a failed check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// The way back to the stable version, while it is being walked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedStep>,
    /// Pods each revision should have, by `pod-template-hash`. The workload controller obeys it in embedded mode.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<String, i32>,
    /// Pods of each revision that can take traffic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ready: BTreeMap<String, i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// When every gateway had acknowledged the present `exposure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<crate::condition::Condition>,
    /// Uids of RolloutCommands already carried out whose own status does not say so yet; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The first version is coming up; it has never served.
    Starting,
    /// The stable version serves, nothing is to be done.
    Idle,
    Progressing,
    Paused,
    /// Stepping back to the stable version.
    RollingBack,
    /// The candidate has become the stable version, the old one is still kept.
    Promoted,
    /// The template names a revision that was turned down; the stable version serves.
    Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The pods' `pod-template-hash`.
    pub hash: String,
    /// `deployment.kubernetes.io/revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    pub hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    pub reason: String,
    /// Whether the candidate is remembered as rejected when the way back is done.
    #[serde(default)]
    pub rejects: bool,
    pub started_at: Timestamp,
    /// From then on the stable version takes the traffic with the pods it has, even if some are still coming up.
    pub routes_by: Timestamp,
}

/// One step of the expansion, with everything made absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    pub name: String,
    /// Pods of each version while the step holds.
    pub candidate: i32,
    pub stable: i32,
    /// `12.5%`
    pub traffic: String,
    /// Requests that go to the candidate whatever the weight, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// `header:x-user-id`: whose requests stay together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// `20%` or `20% of POST`: what is copied to the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// The same, where the answers are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<String>,
    /// `10m` or `approval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

/// What the gateways shall serve. Applied once every live gateway acknowledged a revision of this Rollout that carries it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// `pod-template-hash` of the version that gets the rest.
    pub stable: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// The candidate's share in hundredths of a percent, 0 to 10 000.
    #[serde(default)]
    pub candidate_weight: u32,
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
}

/// Requests that both versions get. The stable version's answers go out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copies {
    /// Of the requests that the stable version answers, in hundredths of a percent.
    pub share: u32,
    /// Requests with another method are not copied. Never empty.
    pub methods: Vec<String>,
    /// What the answers are compared by; they are thrown away when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Box<Compare>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    pub name: String,
    pub state: CheckState,
    #[serde(default)]
    pub passes: u32,
    #[serde(default)]
    pub failures: u32,
    /// The evidence of the last measurement: `error-rate 4.8% of 230 requests, stable 0.0% of 2100, limit +1%`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckState {
    /// No verdict yet: not measured, or too little traffic.
    #[default]
    Waiting,
    /// The last measurement was good; more are wanted, or the step still holds.
    Passing,
    /// As many good measurements in a row as were asked for.
    Passed,
    /// The last measurement was bad, but fewer than end the release.
    Failing,
    Failed,
}

/// A verb: a small object, so that it is auditable and subject to access rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutCommandSpec {
    pub rollout: String,
    pub verb: Verb,
    /// The candidate hash it is meant for; refused when another one is out by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// For `Skip`: the step to go to, counted from 1; the next one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Who asked, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Skip what is left of the steps and release fully.
    Promote,
    /// Leave the hold of the present step.
    Approve,
    Abort,
    Pause,
    Resume,
    Undo,
    Skip,
    Retry,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCommandStatus {
    /// `Done`, `Refused`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

fn deployment() -> String {
    "Deployment".to_owned()
}

fn http_route() -> String {
    "HTTPRoute".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
