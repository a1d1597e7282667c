//! Joins the API's seam for `pods/log` with the node that keeps the logs.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use futures::StreamExt as _;
use serde_json::Value;
use sluice_api::{LogError, LogOptions, LogStream, PodLogs};
use sluice_node::{LogReader, LogSource, LogTarget};

/// The API starts before the node: until the node is there, nobody has logs.
#[derive(Default)]
pub(crate) struct NodeLogs {
    reader: OnceLock<LogReader>,
}

impl NodeLogs {
    pub(crate) fn connect(&self, reader: LogReader) {
        let _ = self.reader.set(reader);
    }
}

impl PodLogs for NodeLogs {
    fn open<'a>(
        &'a self,
        pod: &'a Value,
        options: LogOptions,
    ) -> Pin<Box<dyn Future<Output = Result<LogStream, LogError>> + Send + 'a>> {
        Box::pin(async move {
            let reader = self.reader.get().ok_or_else(|| LogError::Internal("no node runs here".into()))?;
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            let target = LogTarget {
                namespace: text("namespace"),
                pod: text("name"),
                uid: text("uid"),
                container: options.container.clone(),
            };
            let stream = reader.open(&target, translate(options)?).await.map_err(|error| refusal(&error))?;
            // A log that cannot be read any further ends.
            let chunks = stream
                .take_while(|chunk| std::future::ready(chunk.is_ok()))
                .filter_map(|chunk| std::future::ready(chunk.ok()));
            Ok(Box::pin(chunks) as LogStream)
        })
    }
}

fn translate(options: LogOptions) -> Result<sluice_node::LogOptions, LogError> {
    let since = match (options.since_seconds, options.since_time) {
        (Some(seconds), _) => {
            let ago = i64::try_from(seconds).unwrap_or(i64::MAX);
            jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(ago)).ok()
        }
        (None, Some(time)) => {
            Some(time.parse().map_err(|_| LogError::BadRequest(format!("sinceTime `{time}` is no RFC 3339 time")))?)
        }
        (None, None) => None,
    };
    let only = match options.stream.as_str() {
        "Stdout" => Some(LogSource::Stdout),
        "Stderr" => Some(LogSource::Stderr),
        _ => None,
    };
    Ok(sluice_node::LogOptions {
        only,
        follow: options.follow,
        previous: options.previous,
        timestamps: options.timestamps,
        since,
        tail_lines: options.tail_lines,
        limit_bytes: options.limit_bytes,
    })
}

fn refusal(error: &sluice_node::LogError) -> LogError {
    match error {
        sluice_node::LogError::NoPrevious { .. } | sluice_node::LogError::NotStarted { .. } => {
            LogError::BadRequest(error.to_string())
        }
        sluice_node::LogError::Read { .. } => LogError::Internal(error.to_string()),
    }
}
