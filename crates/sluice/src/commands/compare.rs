//! `sluice compare`: what a parallel run has found so far.

use std::fmt::Write as _;

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde::Deserialize;
use sluice_compare::{EndpointReport, PathReport, Report, Verdict};

use crate::connect::{Connection, Failed, connect};
use crate::exit::Exit;
use crate::flags::Compare as Flags;
use crate::{printer, tables};

const GROUP: &str = "measured.sluice.dev";
const VERSION: &str = "v1alpha1";
const HEADERS: [&str; 6] = ["ENDPOINT", "REQUESTS", "MISMATCHES", "PLACE", "DIFFERS", "NOISE"];

/// As the API makes it when it is read.
#[derive(Debug, Deserialize)]
struct Comparison {
    rollout: String,
    stable: String,
    candidate: String,
    report: Report,
}

pub(crate) async fn run(flags: Flags) -> anyhow::Result<Exit> {
    let Connection { client, namespace } = connect(&flags.connect).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, "Comparison"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
    let mut found = Vec::new();
    for object in api.list(&ListParams::default()).await?.items {
        let whole = serde_json::to_value(&object)?;
        let read = Comparison::deserialize(&whole)?;
        if read.rollout == flags.name {
            found.push((whole, read));
        }
    }
    if found.is_empty() {
        return Err(Failed {
            exit: Exit::Failure,
            message: format!("nothing was compared yet for rollout `{}`", flags.name),
            hint: Some("a step with `compare` does, once it gets requests".to_owned()),
        }
        .into());
    }
    for (whole, comparison) in &found {
        match flags.output {
            Some(_) => printer::json(whole),
            None => printer::text(&shown(comparison)),
        }
    }
    Ok(Exit::Ok)
}

fn shown(comparison: &Comparison) -> String {
    let Comparison { rollout, stable, candidate, report } = comparison;
    let mut out = format!("rollout {rollout}: candidate {candidate} beside stable {stable}\n");
    // Writing to memory cannot fail, here and below.
    let _ = writeln!(out, "  verdict    {}", verdict(report));
    let _ = writeln!(out, "  compared   {} requests, {} of them asked of stable twice", report.samples, report.twins);
    if let Some(rate) = report.rate {
        let (low, high) = report.interval;
        let _ = writeln!(
            out,
            "  mismatch   {} net of noise, surely between {} and {}",
            percent(rate),
            percent(low),
            percent(high)
        );
    }
    for pair in report.statuses.iter().filter(|pair| pair.stable != pair.candidate) {
        let candidate = if pair.candidate == 0 { "no answer".to_owned() } else { pair.candidate.to_string() };
        let _ = writeln!(out, "  status     {} where stable has {}: {} times", candidate, pair.stable, pair.count);
    }
    let rows: Vec<Vec<String>> = report.endpoints.iter().flat_map(rows).collect();
    out.push('\n');
    out.push_str(&tables::align(&HEADERS.map(String::from), &rows));
    out.push_str(&examples(report));
    out
}

fn rows(endpoint: &EndpointReport) -> Vec<Vec<String>> {
    let EndpointReport { endpoint, samples, mismatched, paths, .. } = endpoint;
    let first = vec![endpoint.clone(), samples.to_string(), mismatched.to_string()];
    let rest = vec![String::new(); first.len()];
    let of = |at: usize, place: &PathReport| {
        let noise = if place.is_noise { format!("{} (noise)", place.noise) } else { place.noise.to_string() };
        let mut row = if at == 0 { first.clone() } else { rest.clone() };
        row.extend([place.path.clone(), place.differs.to_string(), noise]);
        row
    };
    if paths.is_empty() {
        return vec![[first, vec!["-".to_owned(), "0".to_owned(), "0".to_owned()]].concat()];
    }
    paths.iter().enumerate().map(|(at, place)| of(at, place)).collect()
}

/// Of what is no noise: what each version says there.
fn examples(report: &Report) -> String {
    let mut out = String::new();
    for endpoint in &report.endpoints {
        for place in endpoint.paths.iter().filter(|place| !place.is_noise && !place.examples.is_empty()) {
            let _ = writeln!(out, "\n{} {}", endpoint.endpoint, place.path);
            for example in &place.examples {
                let kind = format!("{:?}", example.kind).to_lowercase();
                let _ = writeln!(
                    out,
                    "  {kind:<8} stable {}  candidate {}  request {}",
                    or_dash(&example.stable),
                    or_dash(&example.candidate),
                    example.request
                );
            }
        }
    }
    out
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn verdict(report: &Report) -> String {
    let word = match report.verdict {
        Verdict::Learning => "learning what differs anyway",
        Verdict::TooFew => "too few requests",
        Verdict::Over => "over the limit",
        Verdict::Unsure => "over the limit so far, which may be chance",
        Verdict::Within => "within the limit",
        Verdict::NoLimit => "no limit",
    };
    format!("{word}: {}", report.evidence)
}

fn percent(rate: f64) -> String {
    format!("{}%", (rate * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_comparison_is_told_by_verdict_place_and_example() {
        let place = |path: &str, differs: u32, noise: u32, is_noise: bool, examples: serde_json::Value| json!({"path": path, "differs": differs, "noise": noise, "isNoise": is_noise, "kinds": {"value": differs}, "examples": examples});
        let example = json!([{"request": "4f1a", "kind": "value", "stable": "12.5", "candidate": "13"}]);
        let comparison = serde_json::from_value(json!({
            "rollout": "shop", "stable": "7d9", "candidate": "84b",
            "report": {
                "samples": 1200, "twins": 80, "judged": 1180, "mismatched": 118, "twinsJudged": 60, "twinsMismatched": 0,
                "elsewhere": 0, "partial": 0, "verdict": "Over", "rate": 0.1, "interval": [0.05, 0.15],
                "evidence": "mismatch 10% of 1180 requests, limit 1%",
                "statuses": [{"stable": 200, "candidate": 200, "count": 1190}, {"stable": 200, "candidate": 0, "count": 10}],
                "endpoints": [
                    {"endpoint": "GET /items/*", "samples": 1000, "twins": 70, "mismatched": 118,
                     "paths": [place("json:$.price", 120, 0, false, example), place("json:$.id", 1000, 70, true, json!([]))]},
                    {"endpoint": "GET /", "samples": 200, "twins": 10, "mismatched": 0, "paths": []},
                ],
            },
        }));
        insta::assert_snapshot!(shown(&comparison.expect("a comparison")), @r"
        rollout shop: candidate 84b beside stable 7d9
          verdict    over the limit: mismatch 10% of 1180 requests, limit 1%
          compared   1200 requests, 80 of them asked of stable twice
          mismatch   10% net of noise, surely between 5% and 15%
          status     no answer where stable has 200: 10 times

        ENDPOINT       REQUESTS   MISMATCHES   PLACE          DIFFERS   NOISE
        GET /items/*   1000       118          json:$.price   120       0
                                               json:$.id      1000      70 (noise)
        GET /          200        0            -              0         0

        GET /items/* json:$.price
          value    stable 12.5  candidate 13  request 4f1a
        ");
    }
}
