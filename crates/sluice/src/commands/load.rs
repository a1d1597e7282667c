//! `sluice load`.

use crate::exit::Exit;
use crate::flags::LoadFlags;
use crate::load::{Load, Pace, Plan, Target, as_json, as_text};
use crate::printer;
use crate::stop::StopSignal;

const DEFAULT_RATE: f64 = 100.0;
const MAX_RATE: f64 = 1_000_000.0;
const MAX_CONCURRENCY: usize = 10_000;

pub(crate) async fn run(flags: LoadFlags) -> anyhow::Result<Exit> {
    let mut stop = StopSignal::catch()?;
    let load = Load::start(plan(&flags)?);
    let (tally, took) = tokio::select! {
        () = stop.received() => load.stop().await,
        () = tokio::time::sleep(flags.duration) => load.finish().await,
    };
    match flags.output {
        Some(_) => printer::json(&as_json(&tally, took)),
        None => printer::text(&as_text(&tally, took)),
    }
    Ok(if tally.failed() == 0 { Exit::Ok } else { Exit::Failure })
}

fn plan(flags: &LoadFlags) -> anyhow::Result<Plan> {
    let pace = match (flags.rate, flags.concurrency) {
        (_, Some(n)) if (1..=MAX_CONCURRENCY).contains(&n) => Pace::Concurrency(n),
        (_, Some(n)) => anyhow::bail!("`--concurrency {n}` must lie between 1 and {MAX_CONCURRENCY}"),
        (Some(rate), None) if rate > 0.0 && rate <= MAX_RATE => Pace::Rate(rate),
        (Some(rate), None) => anyhow::bail!("`--rate {rate}` must be above 0 and at most {MAX_RATE}"),
        (None, None) => Pace::Rate(DEFAULT_RATE),
    };
    Ok(Plan { target: Target::parse(&flags.url, &flags.headers)?, pace, duration: Some(flags.duration) })
}
