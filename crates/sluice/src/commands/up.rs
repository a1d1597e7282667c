//! `sluice up`: the engine, until it is told to stop.

use std::path::PathBuf;

use serde_json::json;
use sluice_engine::{DataLost, Engine, Options, StartError};

use crate::connect::{Failed, default_data_dir};
use crate::exit::Exit;
use crate::flags::{Ipv6Flag, Up};
use crate::printer;
use crate::stop::StopSignal;

pub(crate) fn run(flags: Up) -> anyhow::Result<Exit> {
    log_to_stderr();
    let data = match flags.data {
        Some(data) => data,
        None => default_data_dir()?,
    };
    let options = Options {
        data: absolute(data)?,
        api: flags.api,
        gateway: flags.gateway,
        gateway_tls: flags.gateway_tls,
        gateway_addresses: flags.gateway_addresses,
        trusted_proxies: flags.trusted_proxies,
        access_log: flags.access_log.map(Into::into),
        kubeconfig: flags.kubeconfig.map(absolute).transpose()?,
        controllers: !flags.no_controllers,
        stop_pods: flags.stop_pods,
        services: flags.services.into(),
        dns: flags.dns,
        ipv6: flags.ipv6 == Ipv6Flag::Auto,
        driver: flags.driver.into(),
        program: std::env::current_exe()?,
    };
    engine_runtime()?.block_on(async {
        let mut stop = StopSignal::catch()?;
        let engine = Engine::start(options).await.map_err(|error| failed(&error))?;
        announce(&engine, flags.output.is_some());
        let lost = tokio::select! {
            () = stop.received() => None,
            lost = engine.data_lost() => Some(lost),
        };
        engine.shutdown().await;
        lost.map_or(Ok(Exit::Ok), |lost| Err(gone(&lost)))
    })
}

/// API, controllers and agent share two workers; the gateway brings its own threads.
pub(crate) fn engine_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("engine").enable_all().build()
}

fn announce(engine: &Engine, as_json: bool) {
    let api = format!("https://{}", engine.api());
    let gateway = engine.gateway().map(|address| format!("http://{address}"));
    let ready_ms = engine.ready_after().as_millis();
    let kubeconfig = engine.kubeconfig().display();
    if as_json {
        printer::json(&json!({
            "ready_ms": u64::try_from(ready_ms).unwrap_or(u64::MAX),
            "kubeconfig": kubeconfig.to_string(), "api": api, "gateway": gateway,
            "dns": engine.dns(),
        }));
        return;
    }
    let gateway = gateway.map(|g| format!(", gateway {g}")).unwrap_or_default();
    printer::line(&format!("ready in {ready_ms} ms: api {api}{gateway}; export KUBECONFIG={kubeconfig}"));
}

/// What went wrong at the start, with the exit code that belongs to it.
pub(crate) fn failed(error: &StartError) -> anyhow::Error {
    let (exit, hint) = match error {
        StartError::AddressInUse { flag, .. } => (Exit::AddressInUse, Some(another_address(flag))),
        StartError::Listen { flag, .. } => (Exit::Failure, Some(another_address(flag))),
        StartError::DataInUse { .. } => {
            (Exit::DataInUse, Some("stop the other engine, or choose another directory with `--data DIR`".into()))
        }
        StartError::DataUnwritable { .. } => {
            (Exit::DataUnwritable, Some("choose another directory with `--data DIR`".into()))
        }
        StartError::DataNewer { .. } => {
            (Exit::DataNewer, Some("use the version of sluice that wrote it, or a newer one".into()))
        }
        StartError::Services { .. } => (
            Exit::Failure,
            Some("run as root and without another engine beside, or leave out `--services kernel`".into()),
        ),
        StartError::Api(_) | StartError::Other(_) => (Exit::Failure, None),
    };
    let message = chain(error);
    anyhow::Error::new(Failed { exit, message, hint })
}

/// Pods and objects went with it, so that nothing is left to serve.
fn gone(lost: &DataLost) -> anyhow::Error {
    let hint =
        "its objects and pods are gone with it: restore it from a backup, or start anew with `sluice up`".to_owned();
    anyhow::Error::new(Failed { exit: Exit::DataLost, message: lost.to_string(), hint: Some(hint) })
}

pub(crate) fn another_address(flag: &str) -> String {
    format!("choose another address with `{flag} ADDR`; port 0 takes any free one")
}

/// An error with its causes on one line: `Failed` carries text, not sources.
fn chain(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn absolute(path: PathBuf) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

pub(crate) fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}
