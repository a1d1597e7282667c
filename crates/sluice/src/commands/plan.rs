//! `sluice plan`: what a Rollout will do, before anything runs and without a server.

use anyhow::Context as _;
use serde_json::Value;
use sluice_model::amount::{Amount, Pods};
use sluice_model::rollout::RolloutSpec;
use sluice_release::{Desired, Fences, plan};

use crate::connect::Failed;
use crate::documents::{self, Document};
use crate::exit::Exit;
use crate::flags::Plan;
use crate::printer;

/// What Kubernetes takes where a Deployment says nothing.
const DEFAULT_FENCE: &str = "25%";

pub(crate) fn run(flags: &Plan) -> anyhow::Result<Exit> {
    let documents = documents::read(&flags.files)?;
    let rollouts: Vec<&Document> = documents.iter().filter(|d| d.object["kind"] == "Rollout").collect();
    anyhow::ensure!(!rollouts.is_empty(), "the files hold no Rollout");
    let mut plans = Vec::new();
    for rollout in rollouts {
        let name = rollout.object["metadata"]["name"].as_str().unwrap_or_default();
        let spec: RolloutSpec = serde_json::from_value(rollout.object["spec"].clone())
            .with_context(|| format!("rollout `{name}` in `{}` is not valid", rollout.source))?;
        let desired = Desired::read(&spec).map_err(|errors| refused(name, &errors))?;
        let workload = documents.iter().find(|d| d.object["kind"] == spec.target.kind && named(d, &spec.target.name));
        let replicas = flags.replicas.unwrap_or_else(|| replicas(workload));
        plans.push((name, plan(&desired, replicas, fences(workload, replicas)?)));
    }
    if flags.output.is_some() {
        let value: serde_json::Map<String, Value> = plans
            .iter()
            .map(|(name, plan)| Ok(((*name).to_owned(), serde_json::to_value(plan)?)))
            .collect::<Result<_, serde_json::Error>>()?;
        printer::json(&Value::Object(value));
        return Ok(Exit::Ok);
    }
    for (name, plan) in plans {
        printer::text(&format!("rollout {name}\n{plan}"));
    }
    Ok(Exit::Ok)
}

fn named(document: &Document, name: &str) -> bool {
    document.object["metadata"]["name"] == name
}

/// All mistakes at once, one a line.
fn refused(name: &str, errors: &[sluice_release::SpecError]) -> anyhow::Error {
    let lines: Vec<String> = errors.iter().map(|error| format!("\n  {error}")).collect();
    let message = format!("rollout `{name}` cannot be planned:{}", lines.concat());
    Failed { exit: Exit::Failure, message, hint: None }.into()
}

fn replicas(workload: Option<&Document>) -> u32 {
    let given = workload.and_then(|d| d.object["spec"]["replicas"].as_u64());
    given.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
}

/// How far the workload may stray from its size while it is rolled.
fn fences(workload: Option<&Document>, replicas: u32) -> anyhow::Result<Fences> {
    let rolling = workload.map(|d| &d.object["spec"]["strategy"]["rollingUpdate"]);
    let read = |field: &str| -> anyhow::Result<Pods> {
        let amount = match rolling.map(|r| &r[field]) {
            Some(Value::Number(count)) => Amount::Count(count.as_i64().unwrap_or(0)),
            Some(Value::String(text)) => Amount::Text(text.clone()),
            _ => Amount::Text(DEFAULT_FENCE.into()),
        };
        amount.pods().with_context(|| format!("`spec.strategy.rollingUpdate.{field}` of the workload is not valid"))
    };
    let surge = match read("maxSurge")? {
        Pods::Count(n) => n,
        Pods::Share(share) => share.of_rounded_up(replicas),
    };
    let unavailable = match read("maxUnavailable")? {
        Pods::Count(n) => n,
        Pods::Share(share) => share.of_rounded_down(replicas),
    };
    // Both zero would let nothing move.
    Ok(Fences { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } })
}
