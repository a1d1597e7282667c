//! A metric check as it is written becomes a limit that can be watched.

use std::time::Duration;

use sluice_model::amount::{Amount, AmountError, hundredths_of_percent};
use sluice_model::duration::{self, DurationError};
use sluice_model::rollout::{MetricCheck, MetricSource, Versus};
use sluice_stats::{Limit, MIN_REQUESTS, Metric};

/// Why a metric check was refused. The text begins with the field below `metric`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("name: `{name}` is no metric of the gateway; use error-rate, p50, p90, p95, p99 or throughput")]
    UnknownMetric { name: String },
    #[error("name: `{name}` is limited by `{field}`, and by it alone")]
    Bound { name: String, field: &'static str },
    #[error("versus: `throughput` differs between versions by their weights; compare it with a threshold")]
    ThroughputOverStable,
    #[error("max: {0}")]
    Percentage(#[from] AmountError),
    #[error("max: {0}")]
    Duration(#[from] DurationError),
    #[error("max: `{value}` is less than the stable version itself; write for example `120%`")]
    BelowStable { value: String },
    #[error("min: `{value}` is no number of requests a second")]
    Throughput { value: String },
    #[error("minRequests: must be at least 1")]
    MinRequests,
}

/// Reads the check. An error rate over the stable version's is in points (`max: 1%`), a latency in parts of it (`max: 120%`).
pub(crate) fn read(check: &MetricCheck) -> Result<Limit, LimitError> {
    let MetricCheck { source: MetricSource::Gateway, name, versus, max, min, min_requests } = check;
    let metric = match name.as_str() {
        "error-rate" => error_rate(*versus, only_max(name, max.as_ref(), min.as_ref())?)?,
        "p50" => latency(0.50, *versus, only_max(name, max.as_ref(), min.as_ref())?)?,
        "p90" => latency(0.90, *versus, only_max(name, max.as_ref(), min.as_ref())?)?,
        "p95" => latency(0.95, *versus, only_max(name, max.as_ref(), min.as_ref())?)?,
        "p99" => latency(0.99, *versus, only_max(name, max.as_ref(), min.as_ref())?)?,
        "throughput" => match (versus, max, min) {
            (Versus::Stable, _, _) => return Err(LimitError::ThroughputOverStable),
            (Versus::Threshold, None, Some(at_least)) => throughput(at_least)?,
            _ => return Err(LimitError::Bound { name: name.clone(), field: "min" }),
        },
        _ => return Err(LimitError::UnknownMetric { name: name.clone() }),
    };
    match min_requests {
        Some(0) => Err(LimitError::MinRequests),
        Some(count) => Ok(Limit { metric, min_requests: *count }),
        None => Ok(Limit { metric, min_requests: MIN_REQUESTS }),
    }
}

fn only_max<'a>(name: &str, max: Option<&'a Amount>, min: Option<&Amount>) -> Result<&'a Amount, LimitError> {
    match (max, min) {
        (Some(max), None) => Ok(max),
        _ => Err(LimitError::Bound { name: name.to_owned(), field: "max" }),
    }
}

fn error_rate(versus: Versus, max: &Amount) -> Result<Metric, LimitError> {
    let share = f64::from(max.share()?.hundredths()) / 10_000.0;
    Ok(match versus {
        Versus::Threshold => Metric::ErrorRate { at_most: share },
        Versus::Stable => Metric::ErrorRateOverStable { by_at_most: share },
    })
}

fn latency(quantile: f64, versus: Versus, max: &Amount) -> Result<Metric, LimitError> {
    let text = max.to_string();
    match versus {
        Versus::Threshold => {
            let at_most: Duration = duration::parse(&text)?;
            Ok(Metric::Latency { quantile, at_most })
        }
        Versus::Stable => {
            let hundredths = hundredths_of_percent(&text)?;
            if hundredths < 10_000 {
                return Err(LimitError::BelowStable { value: text });
            }
            Ok(Metric::LatencyOverStable { quantile, times_at_most: f64::from(hundredths) / 10_000.0 })
        }
    }
}

fn throughput(at_least: &Amount) -> Result<Metric, LimitError> {
    let text = at_least.to_string();
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Metric::Throughput { at_least: rate }),
        _ => Err(LimitError::Throughput { value: text }),
    }
}
