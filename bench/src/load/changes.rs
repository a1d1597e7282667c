//! Everything that is changed under load: backends, weights, certificates, listeners, pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::backend::{Backend, Habit};
use super::draws::Draws;
use super::run::{Run, count};
use super::tally::Protocol;
use super::trust::Authority;
use super::world::{DEPLOYMENTS, GATEWAYS, PODS, POOLS, ROUTES, SECRETS, SLICES, World, slice};

/// Backends of each Service at a time.
const BACKENDS: usize = 3;
/// Who patches the weights, and how often in a second all together, where the API keeps up.
pub(super) const PATCHERS: u64 = 4;
const PATCHES_PER_SECOND: u64 = 1000;
/// Between two certificates, listeners or turns of the Deployment.
const CERTIFICATES: Duration = Duration::from_millis(250);
const LISTENERS: Duration = Duration::from_millis(120);
const TURNS: Duration = Duration::from_millis(700);

/// The backends of one Service.
pub(super) struct Pool {
    name: &'static str,
    habit: Habit,
    seed: u64,
    backends: Vec<Backend>,
}

impl Pool {
    pub(super) async fn all(world: &World, seed: u64) -> anyhow::Result<Vec<Self>> {
        let habits = [Habit::Never, Habit::Hinting, Habit::Silent, Habit::Http2];
        let mut all = Vec::new();
        for (name, habit) in POOLS.into_iter().zip(habits) {
            let mut pool = Self { name, habit, seed, backends: Vec::new() };
            for _ in 0..BACKENDS {
                pool.backends.push(Backend::start(habit, seed).await?);
            }
            let served = pool.publish(world).await?;
            world.api.until_served(&served, &[]).await?;
            all.push(pool);
        }
        Ok(all)
    }

    async fn publish(&self, world: &World) -> anyhow::Result<Value> {
        let addresses: Vec<_> = self.backends.iter().map(|backend| backend.address).collect();
        world.api.merge(&format!("{SLICES}/{}", self.name), slice(self.name, &addresses)).await
    }

    /// Replaces one backend or several by others, as the protocol of removal wants it: withdrawn, acknowledged, and only then
    /// killed, without any notice.
    pub(super) async fn turn_over(&mut self, world: &World, run: &Run, draws: &mut Draws) -> anyhow::Result<()> {
        let number = draws.between(1, BACKENDS as u64) as usize;
        let old: Vec<Backend> = self.backends.drain(..number).collect();
        for _ in 0..number {
            self.backends.push(Backend::start(self.habit, self.seed).await?);
            count(&run.changes.additions);
        }
        let served = self.publish(world).await?;
        let gone: Vec<_> = old.iter().map(|backend| backend.address).collect();
        world.api.until_served(&served, &gone).await?;
        for backend in old {
            // The end of an answer that the gateway has passed on may not have been heard of here yet.
            let busy = backend.busy();
            if busy > 0 {
                tokio::task::yield_now().await;
            }
            backend.kill().await;
            count(&run.changes.removals);
        }
        Ok(())
    }
}

/// Patches the weights of the route, as often as it is to be done or as the API lets us.
pub(super) async fn weights(world: Arc<World>, run: Arc<Run>, mut draws: Draws) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_micros(1_000_000 * PATCHERS / PATCHES_PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !run.is_over() {
        ticks.tick().await;
        let path = format!("/spec/rules/0/backendRefs/{}/weight", draws.below(2));
        let patch = json!([{"op": "replace", "path": path, "value": draws.between(1, 100)}]);
        world.api.edit(&format!("{ROUTES}/load"), patch).await?;
        count(&run.changes.patches);
    }
    Ok(())
}

/// One certificate after the other. Who comes after it is served is shown the new one.
pub(super) async fn certificates(world: Arc<World>, run: Arc<Run>, authority: Arc<Authority>) -> anyhow::Result<()> {
    let mut ticks = interval(CERTIFICATES);
    while !run.is_over() {
        ticks.tick().await;
        let leaf = authority.leaf()?;
        world.api.merge(&format!("{SECRETS}/load"), leaf.secret()).await?;
        world
            .api
            .until("the new certificate is shown", || async { Ok(authority.shown(world.tls).await? == leaf.der) })
            .await?;
        count(&run.changes.certificates);
    }
    Ok(())
}

/// Adds and removes a listener with a port of its own, and one with a hostname.
pub(super) async fn listeners(world: Arc<World>, run: Arc<Run>, mut draws: Draws) -> anyhow::Result<()> {
    let mut ticks = interval(LISTENERS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passing = true;
    while !run.is_over() {
        ticks.tick().await;
        let name = format!("n{}.load.example", draws.below(3));
        let hostname = draws.one_in(2).then_some(name.as_str());
        passing = !passing;
        let wanted = world.listeners(hostname, passing);
        world.api.merge(&format!("{GATEWAYS}/load"), json!({"spec": {"listeners": wanted}})).await?;
        count(&run.changes.listeners);
        count(&run.changes.hostnames);
        let is_open = || async { Ok(tokio::net::TcpStream::connect(world.passing).await.is_ok() == passing) };
        let began = Instant::now();
        world.api.until("the listener has followed", is_open).await?;
        if began.elapsed() > Duration::from_secs(3) {
            run.tally.failed(
                Protocol::Http1,
                &format!("passing listener: {} took {:?}", if passing { "open" } else { "closed" }, began.elapsed()),
            );
        }
    }
    Ok(())
}

/// Scales a Deployment up and down, and rolls it: its pods end on the node's own way.
pub(super) async fn pods(world: Arc<World>, run: Arc<Run>, mut draws: Draws) -> anyhow::Result<()> {
    let deployment = format!("{DEPLOYMENTS}/pods");
    let mut ticks = interval(TURNS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for turn in 0_u64.. {
        ticks.tick().await;
        if run.is_over() {
            break;
        }
        let replicas = draws.between(2, 5);
        let mut patch = json!({"spec": {"replicas": replicas}});
        if turn % 3 == 2 {
            patch["spec"]["template"]["metadata"]["annotations"]["turn"] = json!(turn.to_string());
        }
        world.api.merge(&deployment, patch).await?;
        let now = uids(&world).await?;
        run.changes.pods.fetch_add(known.difference(&now).count() as u64, Ordering::Relaxed);
        known = now;
    }
    Ok(())
}

async fn uids(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let pods = world.api.get(&format!("{PODS}?labelSelector=app%3Dpods")).await?;
    let items = pods["items"].as_array().context("a list has items")?;
    Ok(items.iter().filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect())
}

pub(super) async fn until_pods_answer(world: &World) -> anyhow::Result<()> {
    world
        .api
        .until("the pods are ready", || async {
            let deployment = world.api.get(&format!("{DEPLOYMENTS}/pods")).await?;
            Ok(deployment["status"]["readyReplicas"].as_u64() == Some(3))
        })
        .await
}
