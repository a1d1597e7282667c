//! The node agent: follows the pods of its node through the API and makes this machine run them.

mod logs;
mod node;
mod options;

use std::sync::Arc;

use tokio::sync::watch;

pub use logs::{LogError, LogOptions, LogReader, LogStream, LogTarget};
pub use options::NodeOptions;

/// Why an agent did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot create `{}`", path.display())]
    Directory { path: std::path::PathBuf, source: std::io::Error },
    #[error("cannot register node `{name}`")]
    Register { name: String, source: Box<kube::Error> },
}

/// A running agent.
pub struct Agent {
    options: Arc<NodeOptions>,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Agent {
    /// Registers the node, adopts the pods that already run, and follows the API from then on.
    pub async fn start(client: kube::Client, options: NodeOptions) -> Result<Self, StartError> {
        let options = Arc::new(options);
        for path in [options.pods_dir(), options.logs_dir()] {
            std::fs::create_dir_all(&path).map_err(|source| StartError::Directory { path, source })?;
        }
        node::register(&client, &options)
            .await
            .map_err(|source| StartError::Register { name: options.node_name.clone(), source: Box::new(source) })?;
        let (stop, _) = watch::channel(false);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(node::keep_alive(client, options.clone(), stop.subscribe()));
        Ok(Self { options, stop, tasks })
    }

    pub fn node_name(&self) -> &str {
        &self.options.node_name
    }

    /// Reads the logs of this node's pods; cheap to clone.
    pub fn logs(&self) -> LogReader {
        LogReader::new(self.options.logs_dir())
    }

    /// Ends the agent and leaves every pod running: the next agent over the same directory adopts them.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Stops every pod with its grace period, then ends the agent. The objects stay in the API.
    pub async fn stop_all(self) {
        self.shutdown().await;
    }
}
