//! What happens in the demo, one scene after the other.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use sluice_engine::Engine;
use sluice_model::duration;
use sluice_model::rollout::{Phase, RolloutStatus};

use crate::commands::apply;
use crate::commands::rollout::{Rollout, Screen, rollouts};
use crate::connect::Connection;
use crate::documents::{self, Document};
use crate::load::{Load, Pace, Plan, Target};
use crate::printer;

const SHOP: &str = include_str!("../../../../../docs/shop.yaml");
const NAMESPACE: &str = "default";
/// Every eighth page of version 2 is an error: health checks see nothing of it.
const FAULT: &str = "12.5%";
/// How long one scene may take before the demo counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Steady load before and after the releases, so that there is something to compare with.
const CALM: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Outcome {
    pub requests: u64,
    /// Requests without a 2xx answer, except the fault's own answers.
    pub failed: u64,
    pub bad_requests: u64,
    /// From the first moment the fault was exposed until no request could meet it any more.
    pub caught_ms: Option<u64>,
    pub released: Option<String>,
}

impl Outcome {
    pub(crate) fn holds(&self) -> bool {
        self.failed == 0 && self.caught_ms.is_some() && self.released.as_deref() == Some("v3")
    }
}

pub(crate) struct Story<'a> {
    engine: &'a Engine,
    connection: Connection,
    rate: f64,
    tells: bool,
    screen: Screen,
}

impl<'a> Story<'a> {
    pub(crate) fn new(engine: &'a Engine, rate: f64, tells: bool) -> Self {
        let connection = Connection { client: engine.client(), namespace: NAMESPACE.to_owned() };
        Self { engine, connection, rate, tells, screen: Screen::new() }
    }

    pub(crate) async fn tell(mut self) -> anyhow::Result<Outcome> {
        let mut changes = self.changes();
        self.say(&format!("the engine is ready after {} ms", self.engine.ready_after().as_millis()));

        self.scene("version 1 is deployed");
        let shop = documents::parse("the demo shop", SHOP)?;
        self.apply(shop).await?;
        self.until(&mut changes, "version 1 serves", |s| s.stable.is_some() && at_rest(s)).await?;
        let target = self.first_answer().await?;

        let load = Load::start(Plan { target, pace: Pace::Rate(self.rate), duration: None });
        self.say(&format!("{} requests a second from now on", self.rate));
        tokio::time::sleep(CALM).await;

        self.scene("version 2 is deployed; one page in eight is an error");
        self.release("v2", Some(FAULT)).await?;
        let exposed = |s: &RolloutStatus| s.exposed_at.is_some() && s.candidate.is_some() && weight(s) > 0;
        self.until(&mut changes, "version 2 gets its first requests", exposed).await?;
        let since = Instant::now();
        let caught = self.until(&mut changes, "the fault is caught", |s| s.phase == Some(Phase::Rejected)).await;
        let caught_ms = caught.is_ok().then(|| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        let seen = load.so_far();
        self.say(&format!("caught: {} requests met the fault", seen.not_2xx_of("v2")));
        tokio::time::sleep(CALM).await;

        self.scene("version 3 is deployed; it is healthy");
        let stable = caught?.stable.map(|r| r.hash);
        self.release("v3", None).await?;
        let promoted = |s: &RolloutStatus| at_rest(s) && s.stable.as_ref().map(|r| &r.hash) != stable.as_ref();
        let released = self.until(&mut changes, "version 3 is released", promoted).await.is_ok();
        tokio::time::sleep(CALM).await;
        let before_last = load.so_far();
        let (tally, took) = load.stop().await;

        let bad_requests = tally.not_2xx_of("v2");
        let answered_last = tally.by_version.get("v3").map_or(0, |v| v.answers);
        let others = tally.by_version.iter().filter(|(name, _)| *name != "v3").map(|(_, v)| v.answers).sum::<u64>();
        let others_before =
            before_last.by_version.iter().filter(|(n, _)| *n != "v3").map(|(_, v)| v.answers).sum::<u64>();
        let only_v3 = answered_last > 0 && others == others_before;
        self.say(&format!("load ended after {}", duration::show_rounded(took)));
        Ok(Outcome {
            requests: tally.requests,
            failed: tally.failed() - bad_requests,
            bad_requests,
            caught_ms,
            released: (released && only_v3).then(|| "v3".to_owned()),
        })
    }

    fn changes(&self) -> BoxStream<'static, watcher::Result<Rollout>> {
        let api = rollouts(self.connection.client.clone(), NAMESPACE);
        Box::pin(watcher(api, watcher::Config::default()).default_backoff().applied_objects())
    }

    async fn apply(&self, documents: Vec<Document>) -> anyhow::Result<()> {
        apply::apply(&self.connection, documents, false, true, |_, _| {}).await
    }

    /// What a user does: the same manifests with another image.
    async fn release(&self, version: &str, errors: Option<&str>) -> anyhow::Result<()> {
        let mut documents = documents::parse("the demo shop", SHOP)?;
        documents.retain(|d| d.object["kind"] == "Deployment");
        for document in &mut documents {
            let container = &mut document.object["spec"]["template"]["spec"]["containers"][0];
            container["image"] = json!(format!("sluice.dev/demo:{version}"));
            if let Some(share) = errors {
                container["env"] = json!([{"name": "DEMO_ERRORS", "value": share}]);
            }
        }
        self.apply(documents).await
    }

    /// Follows the Rollout until it is as wanted.
    async fn until(
        &mut self,
        changes: &mut BoxStream<'static, watcher::Result<Rollout>>,
        what: &str,
        wanted: impl Fn(&RolloutStatus) -> bool,
    ) -> anyhow::Result<RolloutStatus> {
        let mut last = Value::Null;
        let follow = async {
            while let Some(rollout) = changes.try_next().await? {
                if self.tells {
                    self.screen.show(&rollout);
                }
                last = serde_json::to_value(&rollout.status)?;
                let generation = rollout.metadata.generation;
                if let Some(status) = rollout.status.filter(|s| s.observed_generation == generation && wanted(s)) {
                    return Ok(status);
                }
            }
            anyhow::bail!("the watch on the rollout ended")
        };
        match tokio::time::timeout(PATIENCE, follow).await {
            Ok(result) => result.with_context(|| format!("while waiting until {what}")),
            Err(_) => anyhow::bail!("waited {} until {what}; the rollout's status is {last}", duration::show(PATIENCE)),
        }
    }

    /// The gateway's address, once it answers for the shop.
    async fn first_answer(&self) -> anyhow::Result<Target> {
        let address = self.engine.gateway().context("the engine runs without a gateway")?;
        let target = Target::parse(&format!("http://{address}/"), &[])?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let probe =
                Plan { target: target.clone(), pace: Pace::Concurrency(1), duration: Some(Duration::from_millis(1)) };
            let (tally, _) = Load::start(probe).finish().await;
            if tally.requests > 0 && tally.failed() == 0 {
                return Ok(target);
            }
            anyhow::ensure!(Instant::now() < deadline, "the gateway at {address} does not answer for the shop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn scene(&mut self, title: &str) {
        if self.tells {
            printer::line(&format!("\n== {title}"));
            self.screen = Screen::new();
        }
    }

    fn say(&self, text: &str) {
        if self.tells {
            printer::line(text);
        }
    }
}

/// Nothing is under way any more.
fn at_rest(status: &RolloutStatus) -> bool {
    matches!(status.phase, Some(Phase::Idle | Phase::Promoted))
}

fn weight(status: &RolloutStatus) -> u32 {
    status.exposure.as_ref().map_or(0, |e| e.candidate_weight)
}
