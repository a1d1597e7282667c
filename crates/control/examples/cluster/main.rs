//! An API with the workload controllers and a pretended node, to replay recorded behaviour against:
//! `cargo run -p sluice-control --example cluster -- DIR`, then use `DIR/kubeconfig`.

mod node;

use std::path::PathBuf;

use anyhow::Context as _;
use sluice_api::{Identity, Options, Pki, Server, serve, write_kubeconfig};
use sluice_control::workload::{self, WorkloadOptions};
use sluice_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let data = PathBuf::from(std::env::args().nth(1).context("which directory?")?);
    let pki = Pki::open(&data.join("pki"), &[])?;
    let options = Options { admin_token: Some(pki.admin_token.clone()), ..Options::default() };
    let server = Server::start(Store::open(&data)?, options).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    write_kubeconfig(&data.join("kubeconfig"), &pki.kubeconfig(&format!("https://{}", listener.local_addr()?)))?;

    let stop = CancellationToken::new();
    let client =
        |part: &str| kube::Client::new(server.in_process(Identity::system(format!("system:sluice:{part}"))), "default");
    let controllers = tokio::spawn(workload::run(client("workload"), WorkloadOptions::default(), stop.clone()));
    let node = tokio::spawn(node::run(client("node")));
    let api = tokio::spawn(serve(server.clone(), listener, pki.server_tls()?, stop.clone()));
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    server.stop();
    controllers.await?;
    node.abort();
    api.await??;
    Ok(())
}
