//! Serves the API alone, for trying it out: `cargo run -p sluice-api --example serve -- --data DIR --kubeconfig FILE`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use sluice_api::{Options, Pki, Server, serve, write_kubeconfig};
use sluice_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut data, mut kubeconfig, mut address) = (None, None, "127.0.0.1:0".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--data" => data = Some(PathBuf::from(value)),
            "--kubeconfig" => kubeconfig = Some(PathBuf::from(value)),
            "--api" => address = value,
            _ => return Err(format!("unknown flag `{flag}`").into()),
        }
    }
    let data = data.ok_or("--data DIR is required")?;
    let kubeconfig = kubeconfig.unwrap_or_else(|| data.join("kubeconfig"));
    let pki = Pki::open(&data.join("pki"), &[])?;
    let store = Store::open(&data)?;
    let options = Options { admin_token: Some(pki.admin_token.clone()), ..Options::default() };
    let server = Server::start(store, options).await?;
    let listener = TcpListener::bind(address).await?;
    let url = format!("https://{}", listener.local_addr()?);
    write_kubeconfig(&kubeconfig, &pki.kubeconfig(&url))?;
    writeln!(std::io::stdout(), "{url} {}", kubeconfig.display())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // If the signal cannot be waited for, the process ends by it anyway.
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    serve(server, listener, pki.server_tls()?, shutdown).await?;
    Ok(())
}
