//! `sluice gateway`: the gateway alone, until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context as _;
use kube::Client;
use serde_json::json;
use sluice_gateway::{Gateway, GatewayOptions, StartError};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::up::{another_address, engine_runtime, log_to_stderr};
use crate::connect::{Failed, config};
use crate::exit::Exit;
use crate::flags::Alone;
use crate::printer;
use crate::stop::StopSignal;

pub(crate) fn run(flags: Alone) -> anyhow::Result<Exit> {
    log_to_stderr();
    engine_runtime()?.block_on(serve(flags))
}

async fn serve(flags: Alone) -> anyhow::Result<Exit> {
    let mut stop = StopSignal::catch()?;
    let client = Client::try_from(config(flags.kubeconfig.as_deref()).await?).context("cannot build a client")?;
    // Who has no API yet is told so now, and not by watches that try again and again.
    client.apiserver_version().await?;
    let admin = match flags.admin {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| refused(address, "--admin", &error))?),
        None => None,
    };
    let options = GatewayOptions {
        instance: flags.instance.unwrap_or_else(|| instance(flags.listen)),
        address: flags.listen,
        tls_address: flags.listen_tls,
        addresses: flags.addresses,
        advertise: flags.advertise,
        trusted_proxies: flags.trusted_proxies,
        access_log: flags.access_log.map(Into::into),
        workers: flags.workers,
    };
    let gateway = Gateway::start(client, options).await.map_err(|error| match error {
        StartError::Listen { address, source } => refused(address, "--listen", &source),
        StartError::Workers(_) => error.into(),
    })?;
    let served = gateway.served();
    let (ready, readiness) = watch::channel(false);
    let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let admin = admin.map(|listener| tokio::spawn(sluice_gateway::admin(listener, gateway.counters(), readiness)));
    tokio::select! {
        () = stop.received() => {}
        () = served => {
            ready.send_replace(true);
            announce(gateway.address(), admin_address, flags.output.is_some());
            stop.received().await;
        }
    }
    ready.send_replace(false);
    tokio::time::sleep(flags.linger).await;
    gateway.shutdown().await;
    if let Some(admin) = admin {
        admin.abort();
    }
    Ok(Exit::Ok)
}

/// One that no other gateway of this host has, and that is the same after a restart.
fn instance(listen: SocketAddr) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let letters = host.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    let host: String = letters.take(MAX_HOST).collect();
    let port = if listen.port() == 0 { std::process::id() } else { listen.port().into() };
    format!("{}-{port}", host.trim_matches('-'))
}

/// So that a Lease's name has room for the port.
const MAX_HOST: usize = 50;

fn announce(address: SocketAddr, admin: Option<SocketAddr>, as_json: bool) {
    if as_json {
        let admin = admin.map(|admin| format!("http://{admin}"));
        printer::json(&json!({"gateway": format!("http://{address}"), "admin": admin}));
        return;
    }
    let admin = admin.map(|admin| format!(", admin http://{admin}")).unwrap_or_default();
    printer::line(&format!("ready: gateway http://{address}{admin}"));
}

fn refused(address: SocketAddr, flag: &str, error: &std::io::Error) -> anyhow::Error {
    let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
    let exit = if in_use { Exit::AddressInUse } else { Exit::Failure };
    let message = format!("cannot listen on `{flag} {address}`: {error}");
    anyhow::Error::new(Failed { exit, message, hint: Some(another_address(flag)) })
}
