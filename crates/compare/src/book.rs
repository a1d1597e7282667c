//! What many comparisons come to: by endpoint and by place, with what differs anyway told apart.
//!
//! Two answers of the *same* version differ, too: in times, ids, random order. So a part of the requests goes to the stable version
//! twice, and a place counts as noise where these two differ about as often as stable and candidate do (the rule is Diffy's). The
//! first requests of a book all go there twice; until then nothing is said about requests as a whole. From then on a request is a
//! mismatch when its answers differ in a place that was no noise by all that was known before it, and a pair of the stable version is
//! held to the same. The difference of these two rates is what the candidate is judged by, with evidence that may be looked at any time.

use std::collections::BTreeMap;

use sluice_model::amount::{Amount, Share};
use sluice_model::rollout::Compare;
use sluice_stats::{Count, MIN_REQUESTS, Sequential};

use crate::diff::{Comparison, Difference, Kind};
use crate::report::{EndpointReport, Example, PathReport, Report, StatusPair, judged};

/// Endpoints with counters of their own; further ones are counted together.
const ENDPOINTS: usize = 64;
const OTHERS: &str = "(others)";
/// Places with counters of their own, over all endpoints; differences elsewhere are only counted.
const PATHS: usize = 512;
/// Examples that are kept of each place: the first ones.
const EXAMPLES: usize = 5;
/// Pairs of statuses that are told apart.
const STATUSES: usize = 64;
/// So many requests must have gone to the stable version twice before anything is said about noise.
const LEARNING: u64 = 20;
/// A place is no noise when it differs more often between the versions by more than this part of both rates together, ...
const RELATIVE: f64 = 0.2;
/// ... and by more than this part of all requests.
const ABSOLUTE: f64 = 0.0003;

/// Everything that was found about one candidate.
#[derive(Debug, Clone)]
pub struct Book {
    limit: Limit,
    endpoints: BTreeMap<String, Endpoint>,
    places: usize,
    statuses: BTreeMap<(u16, u16), u64>,
    samples: u64,
    twins: u64,
    /// Differences in places that there was no room for.
    elsewhere: u64,
    partial: u64,
    candidate: Count,
    stable: Count,
    sequential: Option<Sequential>,
    /// What the test has not seen yet: it takes in both versions together.
    pending: [Count; 2],
}

/// What the Rollout says about how much may differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    pub(crate) most: Option<f64>,
    pub(crate) min_samples: u64,
    /// Whether the stable version is asked twice at all.
    pub(crate) learns: bool,
}

#[derive(Debug, Clone, Default)]
struct Endpoint {
    samples: u64,
    twins: u64,
    mismatched: u64,
    places: BTreeMap<String, Place>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    raw: u64,
    noise: u64,
    kinds: BTreeMap<Kind, u64>,
    examples: Vec<Example>,
}

/// One request that was compared.
pub struct Sample<'a> {
    pub endpoint: &'a str,
    /// What finds it again in logs.
    pub request: &'a str,
    /// Of stable and candidate.
    pub statuses: (u16, u16),
    pub found: &'a Comparison,
    /// Of two answers of the stable version, where it was asked twice.
    pub twin: Option<&'a Comparison>,
}

impl Book {
    pub fn new(terms: &Compare) -> Self {
        let share = |amount: &Option<Amount>| amount.as_ref().and_then(|amount| amount.share().ok());
        let learns = share(&terms.noise) != Some(Share::NONE);
        let most = share(&terms.max_mismatch).map(|most| f64::from(most.hundredths()) / 10_000.0);
        let sequential = most.filter(|_| learns).map(|most| Sequential::new(most, Count::default()));
        Self {
            limit: Limit { most, min_samples: terms.min_samples.unwrap_or(MIN_REQUESTS), learns },
            endpoints: BTreeMap::new(),
            places: 0,
            statuses: BTreeMap::new(),
            samples: 0,
            twins: 0,
            elsewhere: 0,
            partial: 0,
            candidate: Count::default(),
            stable: Count::default(),
            sequential,
            pending: [Count::default(); 2],
        }
    }

    /// Whether the next requests should all go to the stable version twice.
    pub fn is_learning(&self) -> bool {
        self.limit.learns && self.twins < LEARNING
    }

    pub fn note(&mut self, sample: &Sample<'_>) {
        let endpoint = match self.endpoints.contains_key(sample.endpoint) || self.endpoints.len() < ENDPOINTS {
            true => sample.endpoint,
            false => OTHERS,
        };
        // Judged by what was known before.
        if !self.is_learning() {
            let bad = self.mismatches(endpoint, sample.found);
            let twin = sample.twin.map(|twin| self.mismatches(endpoint, twin));
            self.judge(endpoint, bad, twin);
        }
        self.samples += 1;
        self.twins += u64::from(sample.twin.is_some());
        self.partial += u64::from(sample.found.is_partial);
        if self.statuses.contains_key(&sample.statuses) || self.statuses.len() < STATUSES {
            *self.statuses.entry(sample.statuses).or_default() += 1;
        }
        let known = self.endpoints.entry(endpoint.to_owned()).or_default();
        known.samples += 1;
        known.twins += u64::from(sample.twin.is_some());
        self.count(endpoint, sample);
    }

    fn judge(&mut self, endpoint: &str, bad: bool, twin: Option<bool>) {
        let add = |count: &mut Count, bad: bool| {
            count.all += 1;
            count.bad += u64::from(bad);
        };
        add(&mut self.candidate, bad);
        add(&mut self.pending[0], bad);
        if bad {
            self.endpoints.entry(endpoint.to_owned()).or_default().mismatched += 1;
        }
        let Some(twin) = twin else { return };
        add(&mut self.stable, twin);
        add(&mut self.pending[1], twin);
        if let Some(sequential) = &mut self.sequential {
            let [candidate, stable] = std::mem::take(&mut self.pending);
            sequential.observe(candidate, stable);
        }
    }

    /// Whether answers differ where it is no noise.
    fn mismatches(&self, endpoint: &str, found: &Comparison) -> bool {
        found.differences.iter().any(|difference| !self.is_noise(endpoint, &difference.path))
    }

    fn is_noise(&self, endpoint: &str, path: &str) -> bool {
        let own = self.endpoints.get(endpoint).filter(|own| own.twins >= LEARNING);
        let rates = match own {
            Some(own) => own.rates(path),
            None => self.pooled(path),
        };
        rates.noise > 0.0 && !rates.differ()
    }

    /// Over all endpoints, for one that is not known well enough.
    fn pooled(&self, path: &str) -> Rates {
        let places = self.endpoints.values().filter_map(|endpoint| endpoint.places.get(path));
        let (raw, noise) = places.fold((0, 0), |(raw, noise), place| (raw + place.raw, noise + place.noise));
        Rates::of(raw, self.samples, noise, self.twins)
    }

    fn count(&mut self, endpoint: &str, sample: &Sample<'_>) {
        // Once for each place, however many of its items differ.
        let mut seen: Vec<&str> = Vec::new();
        for difference in &sample.found.differences {
            let Some(place) = self.place(endpoint, &difference.path) else { continue };
            if !seen.contains(&difference.path.as_str()) {
                seen.push(&difference.path);
                place.raw += 1;
                if place.examples.len() < EXAMPLES {
                    place.examples.push(example(difference, sample.request));
                }
            }
            *place.kinds.entry(difference.kind).or_default() += 1;
        }
        seen.clear();
        for difference in sample.twin.iter().flat_map(|twin| &twin.differences) {
            if seen.contains(&difference.path.as_str()) {
                continue;
            }
            seen.push(&difference.path);
            if let Some(place) = self.place(endpoint, &difference.path) {
                place.noise += 1;
            }
        }
    }

    fn place(&mut self, endpoint: &str, path: &str) -> Option<&mut Place> {
        let own = self.endpoints.get_mut(endpoint)?;
        if !own.places.contains_key(path) {
            if self.places >= PATHS {
                self.elsewhere += 1;
                return None;
            }
            self.places += 1;
        }
        Some(own.places.entry(path.to_owned()).or_default())
    }

    /// For people and for whoever decides.
    pub fn report(&self) -> Report {
        let evidence = self.sequential.as_ref().map(Sequential::evidence);
        let judgement = judged(self.limit, self.candidate, self.stable, evidence, self.is_learning());
        let statuses = self.statuses.iter().map(|((stable, candidate), count)| StatusPair {
            stable: *stable,
            candidate: *candidate,
            count: *count,
        });
        Report {
            samples: self.samples,
            twins: self.twins,
            judged: self.candidate.all,
            mismatched: self.candidate.bad,
            twins_judged: self.stable.all,
            twins_mismatched: self.stable.bad,
            elsewhere: self.elsewhere,
            partial: self.partial,
            verdict: judgement.verdict,
            rate: judgement.rate,
            interval: judgement.interval,
            evidence: judgement.evidence,
            statuses: statuses.collect(),
            endpoints: self.endpoints.iter().map(|(name, own)| self.endpoint_report(name, own)).collect(),
        }
    }

    fn endpoint_report(&self, name: &str, own: &Endpoint) -> EndpointReport {
        let mut places: Vec<PathReport> = own
            .places
            .iter()
            .filter(|(_, place)| place.raw > 0 || place.noise > 0)
            .map(|(path, place)| PathReport {
                path: path.clone(),
                differs: place.raw,
                noise: place.noise,
                is_noise: self.is_noise(name, path),
                kinds: place.kinds.clone(),
                examples: place.examples.clone(),
            })
            .collect();
        // What matters first.
        places.sort_by_key(|place| (place.is_noise, std::cmp::Reverse(place.differs)));
        EndpointReport {
            endpoint: name.to_owned(),
            samples: own.samples,
            twins: own.twins,
            mismatched: own.mismatched,
            paths: places,
        }
    }
}

impl Endpoint {
    fn rates(&self, path: &str) -> Rates {
        let (raw, noise) = self.places.get(path).map_or((0, 0), |place| (place.raw, place.noise));
        Rates::of(raw, self.samples, noise, self.twins)
    }
}

/// How often one place differs: between the versions, and between two answers of the stable one.
#[derive(Debug, Clone, Copy)]
struct Rates {
    raw: f64,
    noise: f64,
}

impl Rates {
    fn of(raw: u64, samples: u64, noise: u64, twins: u64) -> Self {
        let rate = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        Self { raw: rate(raw, samples), noise: rate(noise, twins) }
    }

    /// More than it would by noise.
    fn differ(self) -> bool {
        let more = self.raw - self.noise;
        more > ABSOLUTE && more / (self.raw + self.noise) > RELATIVE
    }
}

fn example(difference: &Difference, request: &str) -> Example {
    let Difference { path: _, kind, stable, candidate } = difference;
    Example { request: request.to_owned(), kind: *kind, stable: stable.clone(), candidate: candidate.clone() }
}

#[cfg(test)]
mod tests;
