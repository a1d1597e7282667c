//! What a book says, for people and for whoever decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_stats::{Count, evidence_above, interval, is_alarm};

use crate::book::Limit;
use crate::diff::Kind;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Requests that were compared.
    pub samples: u64,
    /// Of these, asked of the stable version twice.
    pub twins: u64,
    /// Requests that came after enough was known of noise.
    pub judged: u64,
    /// Of these, with a difference that is no noise.
    pub mismatched: u64,
    /// The same of two answers of the stable version.
    pub twins_judged: u64,
    pub twins_mismatched: u64,
    /// Differences in more places than are told apart.
    pub elsewhere: u64,
    /// Answers that were too large to be gone through to the end.
    pub partial: u64,
    pub verdict: Verdict,
    /// Of requests, net of noise, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Where the rate lies, whenever one looks.
    pub interval: (f64, f64),
    /// For people.
    pub evidence: String,
    pub statuses: Vec<StatusPair>,
    pub endpoints: Vec<EndpointReport>,
}

/// What the numbers say of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is not known yet what differs anyway.
    Learning,
    /// Fewer requests than were asked for.
    TooFew,
    /// More than may differ, surely.
    Over,
    /// More than may differ so far, but it may be chance.
    Unsure,
    Within,
    /// Nobody said how much may differ.
    NoLimit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusPair {
    pub stable: u16,
    pub candidate: u16,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    pub endpoint: String,
    pub samples: u64,
    pub twins: u64,
    pub mismatched: u64,
    /// What is no noise first, then by how often it differs.
    pub paths: Vec<PathReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathReport {
    pub path: String,
    /// Requests in which stable and candidate differ there.
    pub differs: u64,
    /// Requests in which two answers of the stable version do.
    pub noise: u64,
    pub is_noise: bool,
    pub kinds: BTreeMap<Kind, u64>,
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// `X-Request-Id`
    pub request: String,
    pub kind: Kind,
    pub stable: String,
    pub candidate: String,
}

pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) rate: Option<f64>,
    pub(crate) interval: (f64, f64),
    pub(crate) evidence: String,
}

/// `evidence` is the test's, where the stable version is asked twice.
pub(crate) fn judged(
    limit: Limit,
    candidate: Count,
    stable: Count,
    evidence: Option<f64>,
    is_learning: bool,
) -> Judgement {
    let noise = if limit.learns { stable.rate().unwrap_or(0.0) } else { 0.0 };
    let rate = candidate.rate().map(|rate| (rate - noise).max(0.0));
    let between = match limit.learns {
        false => interval(candidate),
        true => {
            let ((low, high), (least, most)) = (interval(candidate), interval(stable));
            ((low - most).max(0.0), (high - least).clamp(0.0, 1.0))
        }
    };
    let verdict = verdict(limit, candidate, rate, evidence, is_learning);
    let percent = |rate: f64| format!("{}%", (rate * 10_000.0).round() / 100.0);
    let text = match (rate, limit.most) {
        (None, _) => "nothing was compared yet".to_owned(),
        (Some(rate), None) => format!("mismatch {} of {} requests", percent(rate), candidate.all),
        (Some(rate), Some(most)) => {
            format!("mismatch {} of {} requests, limit {}", percent(rate), candidate.all, percent(most))
        }
    };
    Judgement { verdict, rate, interval: between, evidence: text }
}

fn verdict(limit: Limit, candidate: Count, rate: Option<f64>, evidence: Option<f64>, is_learning: bool) -> Verdict {
    if is_learning {
        return Verdict::Learning;
    }
    let Some(most) = limit.most else { return Verdict::NoLimit };
    let evidence = evidence.unwrap_or_else(|| evidence_above(most, candidate));
    if is_alarm(evidence) {
        return Verdict::Over;
    }
    match rate {
        Some(rate) if candidate.all >= limit.min_samples => {
            if rate > most {
                Verdict::Unsure
            } else {
                Verdict::Within
            }
        }
        _ => Verdict::TooFew,
    }
}
