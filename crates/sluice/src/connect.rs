//! Reaching the API: which kubeconfig, which namespace, and what an error means for the user.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use sluice_image::{ArchiveError, PullError, StoreError};

use crate::exit::Exit;
use crate::flags::Connect;

/// A client together with the namespace the user means.
pub(crate) struct Connection {
    pub client: Client,
    pub namespace: String,
}

pub(crate) async fn connect(flags: &Connect) -> anyhow::Result<Connection> {
    let config = config(flags.kubeconfig.as_deref()).await?;
    let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("cannot build a client from the kubeconfig")?;
    Ok(Connection { client, namespace })
}

/// What this file says; without one a pod is its service account, and everybody else a user of `sluice up`.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let path = match kubeconfig {
        Some(path) => path.to_owned(),
        None if in_pod() => return Config::incluster().context("the pod's service account is not usable"),
        None => default_data_dir()?.join("kubeconfig"),
    };
    let kubeconfig =
        Kubeconfig::read_from(&path).with_context(|| format!("cannot read the kubeconfig `{}`", path.display()))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("the kubeconfig `{}` is not usable", path.display()))
}

fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
}

/// Where `sluice up` keeps everything unless told otherwise.
pub(crate) fn default_data_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("sluice"))
        .context("neither XDG_DATA_HOME nor HOME is set: say where to keep data with `--data DIR`")
}

/// An error and its causes, outermost first. What the API answered says everything by its message.
pub(crate) fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut texts = Vec::new();
    for cause in error.chain() {
        if let Some(kube::Error::Api(status)) = cause.downcast_ref::<kube::Error>() {
            texts.push(status.message.clone());
            break;
        }
        texts.push(cause.to_string());
    }
    texts
}

/// The exit code that belongs to an error, and what the user can do about it.
pub(crate) fn explain(error: &anyhow::Error) -> (Exit, Option<String>) {
    for cause in error.chain() {
        if let Some(kube::Error::HyperError(_) | kube::Error::Service(_)) = cause.downcast_ref::<kube::Error>() {
            return (Exit::Unreachable, Some("is the engine running? start it with `sluice up`".into()));
        }
        if cause.downcast_ref::<kube::config::KubeconfigError>().is_some() {
            return (
                Exit::Unreachable,
                Some("start the engine with `sluice up`, or name a file with `--kubeconfig`".into()),
            );
        }
        if let Some(hint) = about_images(cause) {
            return (Exit::Failure, Some(hint.to_owned()));
        }
        if let Some(failed) = cause.downcast_ref::<Failed>() {
            return (failed.exit, failed.hint.clone());
        }
    }
    (Exit::Failure, None)
}

fn about_images(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let pull = cause.downcast_ref::<PullError>().and_then(PullError::hint);
    let archive = || cause.downcast_ref::<ArchiveError>().and_then(ArchiveError::hint);
    pull.or_else(archive).or_else(|| cause.downcast_ref::<StoreError>().and_then(StoreError::hint))
}

/// An error that knows its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}
