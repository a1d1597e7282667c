//! `sluice rollout`: show, follow and steer releases.

mod view;

pub(crate) use view::Screen;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams, PostParams};
use kube::core::{Object, ObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use sluice_model::rollout::{Phase, RolloutCommandSpec, RolloutCommandStatus, RolloutSpec, RolloutStatus, Verb};

use crate::connect::{Connection, Failed, connect};
use crate::exit::Exit;
use crate::flags::{Output, Rollout as Flags, RolloutGet, RolloutVerb, RolloutWatch};
use crate::kinds::ours;
use crate::{printer, tables};

pub(crate) type Rollout = Object<RolloutSpec, RolloutStatus>;
type Command = Object<RolloutCommandSpec, RolloutCommandStatus>;

pub(crate) async fn run(flags: Flags) -> anyhow::Result<Exit> {
    match flags {
        Flags::Get(flags) => get(flags).await,
        Flags::Watch(flags) => watch(flags).await,
        Flags::Promote(flags) => command(flags, Verb::Promote).await,
        Flags::Approve(flags) => command(flags, Verb::Approve).await,
        Flags::Abort(flags) => command(flags, Verb::Abort).await,
        Flags::Pause(flags) => command(flags, Verb::Pause).await,
        Flags::Resume(flags) => command(flags, Verb::Resume).await,
        Flags::Skip(flags) => command(flags, Verb::Skip).await,
        Flags::Retry(flags) => command(flags, Verb::Retry).await,
        Flags::Undo(flags) => command(flags, Verb::Undo).await,
    }
}

/// The Rollouts of a namespace.
pub(crate) fn rollouts(client: kube::Client, namespace: &str) -> Api<Rollout> {
    Api::namespaced_with(client, namespace, &ours("Rollout"))
}

async fn get(flags: RolloutGet) -> anyhow::Result<Exit> {
    let Connection { client, namespace } = connect(&flags.connect).await?;
    let api = rollouts(client, &namespace);
    let found = match &flags.name {
        Some(name) => vec![api.get(name).await?],
        None => api.list(&ListParams::default()).await?.items,
    };
    match flags.output {
        Output::Json => print_each(&found, |value| format!("{value:#}\n"))?,
        Output::Yaml => print_each(&found, |value| super::get::yaml(&value))?,
        Output::Name => found.iter().for_each(|r| printer::line(&format!("rollout.sluice.dev/{}", name_of(r)))),
        Output::Table | Output::Wide if flags.name.is_some() => {
            found.iter().for_each(|rollout| printer::text(&view::full(rollout)));
        }
        Output::Table | Output::Wide => {
            let rows: Vec<Vec<String>> = found.iter().map(view::row).collect();
            printer::text(&tables::align(&view::HEADERS.map(String::from), &rows));
        }
    }
    Ok(Exit::Ok)
}

fn print_each(found: &[Rollout], text: impl Fn(serde_json::Value) -> String) -> anyhow::Result<()> {
    for rollout in found {
        printer::text(&text(serde_json::to_value(rollout)?));
    }
    Ok(())
}

/// Follows until the release ends: well with 0, on the stable version with its own code.
async fn watch(flags: RolloutWatch) -> anyhow::Result<Exit> {
    let Connection { client, namespace } = connect(&flags.connect).await?;
    let api = rollouts(client.clone(), &namespace);
    let rollout = api.get(&flags.name).await?;
    let deployments: Api<Deployment> = Api::namespaced(client, &namespace);
    // What was asked for before the watch began must be in the status that ends it.
    let asked = deployments.get_metadata_opt(&rollout.spec.target.name).await?.and_then(|d| d.metadata.generation);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", flags.name));
    let mut changes = Box::pin(watcher(api, only).default_backoff().applied_objects());
    let mut screen = view::Screen::new();
    while let Some(rollout) = changes.try_next().await? {
        screen.show(&rollout);
        match rollout.status.as_ref().and_then(|s| s.phase) {
            Some(Phase::Rejected) if settled(&rollout, asked) => return Ok(Exit::RolledBack),
            Some(Phase::Idle | Phase::Promoted) if settled(&rollout, asked) => return Ok(Exit::Ok),
            _ => {}
        }
    }
    anyhow::bail!("the watch on rollout `{}` ended", flags.name)
}

/// Whether the status is about the newest specification, and about a template at least as new as what was asked for.
fn settled(rollout: &Rollout, asked: Option<i64>) -> bool {
    let Some(status) = &rollout.status else { return false };
    status.observed_generation == rollout.metadata.generation && status.target_generation >= asked
}

async fn command(flags: RolloutVerb, verb: Verb) -> anyhow::Result<Exit> {
    let Connection { client, namespace } = connect(&flags.connect).await?;
    let rollout = rollouts(client.clone(), &namespace).get(&flags.name).await?;
    let candidate = rollout.status.as_ref().and_then(|s| s.candidate.as_ref()).map(|c| c.hash.clone());
    let commands: Api<Command> = Api::namespaced_with(client, &namespace, &ours("RolloutCommand"));
    let word = format!("{verb:?}").to_lowercase();
    let mut command = Object::new(
        "",
        &ours("RolloutCommand"),
        RolloutCommandSpec {
            rollout: flags.name.clone(),
            verb,
            revision: candidate,
            step: None,
            by: std::env::var("USER").ok(),
        },
    );
    command.metadata = ObjectMeta { generate_name: Some(format!("{}-{word}-", flags.name)), ..ObjectMeta::default() };
    let created = commands.create(&PostParams::default(), &command).await?;
    let name = created.metadata.name.context("the API names what it creates")?;
    let answer = answered(&commands, &name).await?;
    if answer.phase == "Refused" {
        let message = format!("cannot {word} rollout `{}`: {}", flags.name, answer.message);
        return Err(Failed { exit: Exit::Failure, message, hint: None }.into());
    }
    let said = if answer.message.is_empty() { String::new() } else { format!(": {}", answer.message) };
    printer::line(&format!("rollout `{}`: {word} done{said}", flags.name));
    Ok(Exit::Ok)
}

/// Waits until the controller has answered a command.
async fn answered(commands: &Api<Command>, name: &str) -> anyhow::Result<RolloutCommandStatus> {
    /// How long the controller may take before the command is left to it.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let wait = async {
        let mut changes = Box::pin(watcher(commands.clone(), only).applied_objects());
        while let Some(command) = changes.try_next().await? {
            if let Some(status) = command.status.filter(|s| !s.phase.is_empty()) {
                return Ok(status);
            }
        }
        anyhow::bail!("the watch on command `{name}` ended")
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| anyhow::bail!("command `{name}` is recorded, but no controller has answered it yet"))
}

fn name_of(rollout: &Rollout) -> &str {
    rollout.metadata.name.as_deref().unwrap_or_default()
}
