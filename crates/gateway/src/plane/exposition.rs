//! Everything that was counted, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::comparer::BookKey;
use super::limits;
use super::meter::{BOUNDS, CircuitCounts, MirrorCounts, RouteCounts, RouteKey, VersionKey};
use sluice_compare::Report;
use sluice_route::RouteId;
use sluice_stats::VersionSnapshot;

/// All counters at one time.
pub(crate) struct Counted {
    /// Of the table that every worker serves.
    pub(crate) generation: u64,
    pub(crate) routes: BTreeMap<RouteKey, RouteCounts>,
    pub(crate) versions: BTreeMap<VersionKey, VersionSnapshot>,
    pub(crate) mirrors: BTreeMap<VersionKey, MirrorCounts>,
    pub(crate) circuits: BTreeMap<VersionKey, CircuitCounts>,
    pub(crate) comparisons: BTreeMap<BookKey, Report>,
    pub(crate) comparisons_dropped: u64,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
}

impl Counted {
    pub(crate) fn text(&self) -> String {
        let mut page = Page::default();
        page.family("sluice_gateway_generation", "gauge");
        page.sample("", &[], self.generation);
        page.family("sluice_gateway_requests_total", "counter");
        for (key, counts) in &self.routes {
            for (class, count) in (1..).zip(counts.classes).filter(|(_, count)| *count > 0) {
                page.sample("", &[of_route(key).as_slice(), &[("code", &format!("{class}xx"))]].concat(), count);
            }
        }
        page.family("sluice_gateway_requests_in_flight", "gauge");
        for (key, counts) in &self.routes {
            page.sample("", &of_route(key), counts.in_flight);
        }
        page.family("sluice_gateway_request_duration_seconds", "histogram");
        for (key, counts) in &self.routes {
            page.histogram(&of_route(key), counts);
        }
        self.of_versions(&mut page);
        self.of_comparisons(&mut page);
        page.family("sluice_gateway_refusals_total", "counter");
        for (reason, count) in &self.refusals {
            page.sample("", &[("reason", reason)], count);
        }
        page.text
    }

    fn of_comparisons(&self, page: &mut Page) {
        let books: Vec<_> = self.comparisons.iter().map(|(key, report)| (of_book(key), report)).collect();
        page.family("sluice_gateway_compared_total", "counter");
        for (labels, report) in &books {
            page.sample("", labels, report.samples);
        }
        page.family("sluice_gateway_mismatches_total", "counter");
        for (labels, report) in &books {
            page.sample("", labels, report.mismatched);
        }
        let places: Vec<_> = books.iter().map(|(labels, report)| (labels, places(report))).collect();
        page.family("sluice_gateway_differences_total", "counter");
        for (labels, (path, counts)) in
            places.iter().flat_map(|(labels, places)| places.iter().map(move |p| (labels, p)))
        {
            page.sample("", &[labels.as_slice(), &[("path", path)]].concat(), counts.differs);
        }
        page.family("sluice_gateway_differences_of_stable_total", "counter");
        for (labels, (path, counts)) in
            places.iter().flat_map(|(labels, places)| places.iter().map(move |p| (labels, p)))
        {
            page.sample("", &[labels.as_slice(), &[("path", path)]].concat(), counts.noise);
        }
        page.family("sluice_gateway_comparisons_dropped_total", "counter");
        page.sample("", &[], self.comparisons_dropped);
    }

    fn of_versions(&self, page: &mut Page) {
        page.family("sluice_gateway_connection_failures_total", "counter");
        for (key, snapshot) in &self.versions {
            page.sample("", &of_version(key), snapshot.connection_failures);
        }
        page.family("sluice_gateway_broken_answers_total", "counter");
        for (key, snapshot) in &self.versions {
            page.sample("", &of_version(key), snapshot.broken_answers);
        }
        page.family("sluice_gateway_circuit_openings_total", "counter");
        for (key, counts) in self.circuits.iter().filter(|(_, counts)| counts.openings > 0) {
            page.sample("", &of_version(key), counts.openings);
        }
        page.family("sluice_gateway_circuit_requests_total", "counter");
        for (key, CircuitCounts { diverted, refused, .. }) in &self.circuits {
            for (outcome, count) in [("diverted", diverted), ("refused", refused)] {
                if *count > 0 {
                    page.sample("", &[of_version(key).as_slice(), &[("outcome", outcome)]].concat(), count);
                }
            }
        }
        page.family("sluice_gateway_mirrored_total", "counter");
        for (key, MirrorCounts { answered, dropped, failed }) in &self.mirrors {
            for (outcome, count) in [("answered", answered), ("dropped", dropped), ("failed", failed)] {
                if *count > 0 {
                    page.sample("", &[of_version(key).as_slice(), &[("outcome", outcome)]].concat(), count);
                }
            }
        }
    }
}

/// How often one place differs, over all endpoints.
#[derive(Default)]
struct PlaceCounts {
    differs: u64,
    noise: u64,
}

/// Those that differ most.
fn places(report: &Report) -> Vec<(&str, PlaceCounts)> {
    let mut places: BTreeMap<&str, PlaceCounts> = BTreeMap::new();
    for place in report.endpoints.iter().flat_map(|endpoint| &endpoint.paths) {
        let counts = places.entry(&place.path).or_default();
        counts.differs += place.differs;
        counts.noise += place.noise;
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.differs));
    places.truncate(limits::COMPARED_PLACES);
    places
}

fn of_book(key: &BookKey) -> [(&str, &str); 4] {
    let BookKey { namespace, rollout, stable, candidate } = key;
    [("namespace", namespace), ("rollout", rollout), ("stable", stable), ("version", candidate)]
}

fn of_version(key: &VersionKey) -> [(&str, &str); 2] {
    [("namespace", &key.namespace), ("version", &key.hash)]
}

fn of_route(key: &RouteKey) -> [(&str, &str); 5] {
    let [namespace, version] = of_version(&key.version);
    let RouteId { kind, key } = &key.route;
    [("route_kind", kind.name()), ("route_namespace", &key.namespace), ("route", &key.name), namespace, version]
}

#[derive(Default)]
struct Page {
    text: String,
    /// The family that was begun last.
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str) {
        // Writing to memory cannot fail, here and below.
        let _written = writeln!(self.text, "# TYPE {name} {kind}");
        self.family = name;
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let name = self.family;
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _written = writeln!(self.text, "{name}{suffix}{labels} {value}");
    }

    fn histogram(&mut self, labels: &[(&str, &str)], counts: &RouteCounts) {
        let mut below = 0;
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts.buckets) {
            below += count;
            self.sample("_bucket", &[labels, &[("le", &bound)]].concat(), below);
        }
        self.sample("_sum", labels, seconds(counts.micros));
        self.sample("_count", labels, below);
    }
}

fn seconds(micros: u64) -> String {
    (micros as f64 / 1e6).to_string()
}

/// What names of objects cannot have, but labels might.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::meter::RouteMeter;
    use crate::plane::meter::Tally as _;
    use sluice_route::{ObjectKey, RouteKind};
    use std::time::Duration;

    #[test]
    fn a_page_is_what_was_counted() {
        let version = VersionKey { namespace: "default".to_owned(), hash: "7d\"9".to_owned() };
        let meter = RouteMeter::default();
        for (status, millis) in [(Some(200), 1), (Some(204), 30), (Some(503), 20_000), (None, 1)] {
            meter.begin();
            meter.end(status, Duration::from_millis(millis));
        }
        meter.begin();
        let mirrored = MirrorCounts { answered: 3, dropped: 0, failed: 1 };
        let counted = Counted {
            generation: 7,
            routes: [(
                RouteKey {
                    route: RouteId { kind: RouteKind::HttpRoute, key: ObjectKey::new("web", "shop") },
                    version: version.clone(),
                },
                meter.counts(),
            )]
            .into(),
            versions: [(version.clone(), VersionSnapshot { connection_failures: 2, ..VersionSnapshot::default() })]
                .into(),
            circuits: [(version.clone(), CircuitCounts { openings: 1, diverted: 9, refused: 0 })].into(),
            mirrors: [(version, mirrored)].into(),
            comparisons: BTreeMap::new(),
            comparisons_dropped: 0,
            refusals: [("no-route", 4)].into(),
        };
        insta::assert_snapshot!(counted.text(), @r#"
        # TYPE sluice_gateway_generation gauge
        sluice_gateway_generation 7
        # TYPE sluice_gateway_requests_total counter
        sluice_gateway_requests_total{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",code="2xx"} 2
        sluice_gateway_requests_total{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",code="5xx"} 1
        # TYPE sluice_gateway_requests_in_flight gauge
        sluice_gateway_requests_in_flight{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9"} 1
        # TYPE sluice_gateway_request_duration_seconds histogram
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.001"} 1
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.005"} 1
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.01"} 1
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.025"} 1
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.05"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.1"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.25"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="0.5"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="1"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="2.5"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="5"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="10"} 2
        sluice_gateway_request_duration_seconds_bucket{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9",le="+Inf"} 3
        sluice_gateway_request_duration_seconds_sum{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9"} 20.031
        sluice_gateway_request_duration_seconds_count{route_kind="HTTPRoute",route_namespace="web",route="shop",namespace="default",version="7d\"9"} 3
        # TYPE sluice_gateway_connection_failures_total counter
        sluice_gateway_connection_failures_total{namespace="default",version="7d\"9"} 2
        # TYPE sluice_gateway_broken_answers_total counter
        sluice_gateway_broken_answers_total{namespace="default",version="7d\"9"} 0
        # TYPE sluice_gateway_circuit_openings_total counter
        sluice_gateway_circuit_openings_total{namespace="default",version="7d\"9"} 1
        # TYPE sluice_gateway_circuit_requests_total counter
        sluice_gateway_circuit_requests_total{namespace="default",version="7d\"9",outcome="diverted"} 9
        # TYPE sluice_gateway_mirrored_total counter
        sluice_gateway_mirrored_total{namespace="default",version="7d\"9",outcome="answered"} 3
        sluice_gateway_mirrored_total{namespace="default",version="7d\"9",outcome="failed"} 1
        # TYPE sluice_gateway_compared_total counter
        # TYPE sluice_gateway_mismatches_total counter
        # TYPE sluice_gateway_differences_total counter
        # TYPE sluice_gateway_differences_of_stable_total counter
        # TYPE sluice_gateway_comparisons_dropped_total counter
        sluice_gateway_comparisons_dropped_total 0
        # TYPE sluice_gateway_refusals_total counter
        sluice_gateway_refusals_total{reason="no-route"} 4
        "#);
    }
}
