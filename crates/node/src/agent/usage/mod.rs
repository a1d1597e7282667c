//! What this machine and its pods use, for `kubectl top`.
//!
//! Processor time is a counter, and use is its rise over a window: a task notes the counters now and then (`history`), which is
//! all that an idle engine does for it. Everything else, memory and the names and labels of pods, is read when somebody asks.

mod history;
mod machine;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::ListParams};
use sluice_pod::{
    kernel,
    pod_dir::{PodDir, read_json},
    wire::{Condition, PodState},
};
use tokio::time::MissedTickBehavior;

use self::{
    history::{Counted, History, Rate, Whose},
    machine::{Machine, Meter},
};

/// How often the counters are noted.
const EVERY: Duration = Duration::from_secs(15);
/// Somebody who asks more often than this gets the same answer.
const FRESH_MS: u64 = 1000;
/// A container that was started this recently has counted from zero since.
const YOUNG_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub cpu_nanocores: u64,
    /// What could not be taken away without harm.
    pub memory_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct ContainerUsage {
    pub name: String,
    pub usage: Usage,
}

/// Measurements end `at` a time and are over a `window` before it.
#[derive(Debug, Clone)]
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub at: Timestamp,
    pub window: Duration,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Debug, Clone)]
pub struct NodeUsage {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub at: Timestamp,
    pub window: Duration,
    pub usage: Usage,
}

/// Tells what is used; cheap to clone.
#[derive(Clone)]
pub struct UsageReader {
    client: Client,
    node_name: String,
    pods_dir: PathBuf,
    history: Arc<Mutex<History>>,
}

impl UsageReader {
    pub(super) fn new(client: Client, node_name: &str, pods_dir: PathBuf) -> Self {
        Self { client, node_name: node_name.to_owned(), pods_dir, history: Arc::default() }
    }

    /// Notes the counters until it is dropped.
    pub(super) async fn keep(self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let reader = self.clone();
            // It only reads files, and a machine that cannot be measured is simply not measured.
            let _measured = tokio::task::spawn_blocking(move || {
                let (machine, now_ms) = (Machine::look(), kernel::now().mono_ms);
                reader.history().tick(now_ms, counters(&machine, &reader.meters(&machine)));
            })
            .await;
        }
    }

    /// What the pods of a namespace use, or of all when it is empty; those without a window yet are left out.
    pub async fn pods(&self, namespace: &str, name: Option<&str>) -> Result<Vec<PodUsage>, kube::Error> {
        let api = match namespace {
            "" => Api::<Pod>::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        };
        let mut fields = format!("spec.nodeName={}", self.node_name);
        if let Some(name) = name {
            fields.push_str(&format!(",metadata.name={name}"));
        }
        let pods = api.list_metadata(&ListParams::default().fields(&fields)).await?.items;
        let measured = self.measured().await;
        Ok(pods.into_iter().filter_map(|pod| measured.pod(pod.metadata)).collect())
    }

    /// What this machine uses; none before there is a window.
    pub async fn node(&self) -> Result<Option<NodeUsage>, kube::Error> {
        let node = Api::<Node>::all(self.client.clone()).get_metadata(&self.node_name).await?.metadata;
        let measured = self.measured().await;
        let Some(rate) = measured.rates.get(&Whose::Node) else { return Ok(None) };
        Ok(Some(NodeUsage {
            name: self.node_name.clone(),
            labels: node.labels.unwrap_or_default(),
            at: measured.at,
            window: rate.window,
            usage: Usage { cpu_nanocores: rate.nanocores, memory_bytes: measured.node_memory },
        }))
    }

    async fn measured(&self) -> Measured {
        let reader = self.clone();
        tokio::task::spawn_blocking(move || reader.measure()).await.unwrap_or_default()
    }

    fn measure(&self) -> Measured {
        let (machine, now_ms) = (Machine::look(), kernel::now().mono_ms);
        let meters = self.meters(&machine);
        let mut history = self.history();
        if history.newest_ms().is_none_or(|at_ms| now_ms >= at_ms + FRESH_MS) {
            history.look(now_ms, counters(&machine, &meters));
        }
        let rates = history.rates();
        drop(history);
        let mut memory: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
        for running in meters {
            let bytes = running.meter.memory_bytes(&machine).unwrap_or(0);
            memory.entry(running.uid).or_default().push((running.container, bytes));
        }
        Measured { at: Timestamp::now(), rates, memory, node_memory: machine.memory_bytes() }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where each running container is measured.
    fn meters(&self, machine: &Machine) -> Vec<Running> {
        let pods = std::fs::read_dir(&self.pods_dir).into_iter().flatten().flatten();
        pods.filter_map(|pod| Some((pod.file_name().into_string().ok()?, saved(&pod.path())?)))
            .flat_map(|(uid, state)| running(machine, &uid, state))
            .collect()
    }
}

impl std::fmt::Debug for UsageReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsageReader").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// A container that runs now.
struct Running {
    uid: String,
    container: String,
    /// Which of its runs it is.
    run: u64,
    age_ms: u64,
    meter: Meter,
}

fn saved(pod: &Path) -> Option<PodState> {
    read_json(&PodDir::new(pod.to_owned()).state()).ok().flatten()
}

fn running(machine: &Machine, uid: &str, state: PodState) -> Vec<Running> {
    let now = Timestamp::now();
    let containers = state.containers.into_iter().filter_map(|container| match container.condition {
        Condition::Running { pid, ticks, started_at, .. } => Some(Running {
            uid: uid.to_owned(),
            run: ticks,
            age_ms: u64::try_from(now.duration_since(started_at).as_millis()).unwrap_or(0),
            meter: machine.meter(uid, &container.name, pid),
            container: container.name,
        }),
        Condition::Waiting { .. } | Condition::Terminated(_) => None,
    });
    containers.collect()
}

fn counters(machine: &Machine, meters: &[Running]) -> Vec<Counted> {
    let node = Counted { whose: Whose::Node, run: 0, cpu: machine.cpu_time(), from_zero_ms: None };
    let containers = meters.iter().filter_map(|running| {
        Some(Counted {
            whose: Whose::Container { uid: running.uid.clone(), name: running.container.clone() },
            run: running.run,
            cpu: running.meter.cpu_time(machine)?,
            from_zero_ms: Some(running.age_ms).filter(|age_ms| *age_ms < YOUNG_MS),
        })
    });
    std::iter::once(node).chain(containers).collect()
}

/// Everything that was measured at one time.
#[derive(Debug, Default)]
struct Measured {
    at: Timestamp,
    rates: BTreeMap<Whose, Rate>,
    /// Of each pod's containers, by uid.
    memory: BTreeMap<String, Vec<(String, u64)>>,
    node_memory: u64,
}

impl Measured {
    /// A pod is told of as a whole: none when one of its containers has no window yet.
    fn pod(&self, pod: ObjectMeta) -> Option<PodUsage> {
        let uid = pod.uid?;
        let mut window = Duration::MAX;
        let containers: Option<Vec<ContainerUsage>> = self
            .memory
            .get(&uid)?
            .iter()
            .map(|(name, memory_bytes)| {
                let rate = self.rates.get(&Whose::Container { uid: uid.clone(), name: name.clone() })?;
                window = window.min(rate.window);
                let usage = Usage { cpu_nanocores: rate.nanocores, memory_bytes: *memory_bytes };
                Some(ContainerUsage { name: name.clone(), usage })
            })
            .collect();
        Some(PodUsage {
            namespace: pod.namespace.unwrap_or_default(),
            name: pod.name.unwrap_or_default(),
            labels: pod.labels.unwrap_or_default(),
            at: self.at,
            window,
            containers: containers?,
        })
    }
}
