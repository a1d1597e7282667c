//! `sluice demo`: a release that goes wrong and is rolled back by itself, then one that succeeds - under steady load.

mod story;

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use sluice_engine::{DnsWish, Driver, Engine, Options, ServicesWish};

use super::up::{engine_runtime, failed};
use crate::exit::Exit;
use crate::flags::Demo;
use crate::printer;
use crate::stop::StopSignal;
use story::{Outcome, Story};

pub(crate) fn run(flags: &Demo) -> anyhow::Result<Exit> {
    anyhow::ensure!(flags.rate >= 1.0, "`--rate {}` must be at least 1", flags.rate);
    let data = tempfile::Builder::new().prefix("sluice-demo-").tempdir()?;
    engine_runtime()?.block_on(async {
        let mut stop = StopSignal::catch()?;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let engine = Engine::start(Options {
            data: data.path().to_owned(),
            api: any_port,
            gateway: any_port,
            gateway_tls: None,
            gateway_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
            access_log: None,
            kubeconfig: None,
            controllers: true,
            stop_pods: true,
            driver: Driver::default(),
            services: ServicesWish::User,
            dns: DnsWish::Off,
            ipv6: false,
            program: std::env::current_exe()?,
        })
        .await
        .map_err(|error| failed(&error))?;
        // The story is interrupted, not the clean-up: pods of the demo never outlive it.
        let told = tokio::select! {
            told = Story::new(&engine, flags.rate, flags.output.is_none()).tell() => told,
            () = stop.received() => Err(anyhow::anyhow!("interrupted")),
        };
        engine.shutdown().await;
        let outcome = told?;
        report(&outcome, flags.output.is_some());
        Ok(if outcome.holds() { Exit::Ok } else { Exit::Failure })
    })
}

fn report(outcome: &Outcome, as_json: bool) {
    if as_json {
        printer::json(&json!({
            "ok": outcome.holds(), "requests": outcome.requests, "failed": outcome.failed,
            "caught_ms": outcome.caught_ms, "bad_requests": outcome.bad_requests, "released": outcome.released,
        }));
        return;
    }
    printer::line(&format!("\n{} requests, {} failed", outcome.requests, outcome.failed));
    match outcome.caught_ms {
        Some(ms) => printer::line(&format!(
            "the fault in v2 was caught {ms} ms after it was exposed; {} requests met it",
            outcome.bad_requests
        )),
        None => printer::line("the fault in v2 was not caught"),
    }
    match &outcome.released {
        Some(version) => printer::line(&format!("{version} is released")),
        None => printer::line("v3 was not released"),
    }
}
