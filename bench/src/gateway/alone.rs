//! The gateway without an engine around it: one worker in a process that a tool can count instructions of.

use std::io::Read as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use sluice_gateway::{Gateway, GatewayOptions};

/// `sluice-bench alone KUBECONFIG ADDRESS`, until standard input ends.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(2);
    let (file, address) = arguments.next().zip(arguments.next()).context("a kubeconfig and an address are needed")?;
    let address: SocketAddr = address.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let file = Kubeconfig::read_from(file)?;
        let client = Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
        let options = GatewayOptions { instance: "alone".to_owned(), address, workers: 1, ..GatewayOptions::default() };
        let gateway = Gateway::start(client, options).await?;
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        ended.await??;
        gateway.shutdown().await;
        Ok(())
    })
}
