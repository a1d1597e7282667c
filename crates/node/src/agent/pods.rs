//! The pods of this node: a task for each, and the end of those that the API no longer knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use sluice_pod::pod_dir::PodDir;
use tokio::{sync::watch, task::JoinSet};
use tracing::{info, warn};

use super::{
    context::Context,
    teardown::{Grace, tear_down},
    worker::{Desired, Worker},
};

struct Pods {
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
    workers: BTreeMap<String, watch::Sender<Desired>>,
    /// The pods that a list has named so far.
    listed: BTreeSet<String>,
    tasks: JoinSet<()>,
}

/// Follows the pods of this node until told to stop; the pods themselves go on.
pub(super) async fn follow(context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={}", context.options.node_name));
    let mut events = std::pin::pin!(watcher(Api::<Pod>::all(context.client.clone()), ours).default_backoff());
    let mut pods =
        Pods { context, stop: stop.clone(), workers: BTreeMap::new(), listed: BTreeSet::new(), tasks: JoinSet::new() };
    loop {
        tokio::select! {
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            Some(event) = events.next() => match event {
                Ok(event) => pods.take(event),
                Err(error) => warn!(%error, "Pods not watched"),
            },
            Some(ended) = pods.tasks.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "A pod's task failed");
                }
            }
        }
    }
    pods.workers.clear();
    while pods.tasks.join_next().await.is_some() {}
}

impl Pods {
    fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(pod.uid().unwrap_or_default());
                self.desire(pod);
            }
            watcher::Event::InitDone => self.end_unlisted(),
            watcher::Event::Apply(pod) => self.desire(pod),
            watcher::Event::Delete(pod) => self.forget(&pod.uid().unwrap_or_default()),
        }
    }

    fn desire(&mut self, pod: Pod) {
        let (uid, pod) = (pod.uid().unwrap_or_default(), Arc::new(pod));
        if let Some(worker) = self.workers.get(&uid) {
            // A worker that is done has nothing more to hear.
            let _done = worker.send(Desired::Pod(pod));
            return;
        }
        let (sender, receiver) = watch::channel(Desired::Pod(pod.clone()));
        self.workers.insert(uid, sender);
        self.tasks.spawn(Worker::new(self.context.clone(), pod).run(receiver, self.stop.clone()));
    }

    fn forget(&mut self, uid: &str) {
        if let Some(worker) = self.workers.remove(uid) {
            let _done = worker.send(Desired::Gone);
            // The task ends by itself, with the last word still to be read from the channel.
            self.tasks.spawn(async move { worker.closed().await });
        }
    }

    /// A full list is in: whoever is not on it is gone, whether we ran it or an agent before us.
    fn end_unlisted(&mut self) {
        let gone: Vec<String> = self.workers.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
        gone.iter().for_each(|uid| self.forget(uid));
        let directories = std::fs::read_dir(self.context.options.pods_dir()).into_iter().flatten().flatten();
        for directory in directories {
            let uid = directory.file_name().to_string_lossy().into_owned();
            if self.listed.contains(&uid) || gone.contains(&uid) {
                continue;
            }
            info!(uid, "Ending a pod that the API does not know");
            let (context, dir) = (self.context.clone(), PodDir::new(directory.path()));
            self.tasks.spawn(async move {
                let address = tear_down(&dir, &context.options, Grace::None).await;
                context.release(&uid, address).await;
            });
        }
    }
}
