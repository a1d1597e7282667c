//! The life of a pod as a pure state machine: a plan, what happened and the time go in, what to do next comes out.
//!
//! [`Machine::step`] takes one [`Input`] and then looks at the whole pod: `order` says who may run and who must go, `ending`
//! takes one container from its preStop hook over the stop signal to SIGKILL, `view` tells the outside. Nothing here knows
//! of processes, files or sockets.

mod backoff;
mod ending;
mod order;
mod resume;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::{
    plan::{Launch, PodPlan, RestartPolicy, Role},
    wire::{BackOff, Ending, Exit, HookRun, Identity, Notice, Phase, StopState},
};

/// How long after a full disk it is tried again.
const ROOM_RETRY_MS: u64 = 2_000;
/// The exit code of a container that could not be started.
const START_ERROR: i32 = 128;

/// Both clocks: deadlines are kept on the one that nobody sets.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds since boot.
    pub mono_ms: u64,
    pub wall: Timestamp,
}

/// How the first process of a container has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Death {
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel took it to get memory back.
    pub out_of_memory: bool,
    /// Its last words.
    pub message: String,
}

impl Death {
    fn reason(&self) -> &'static str {
        match self.code {
            _ if self.out_of_memory => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        }
    }
}

/// What happened. Containers go by their index in the plan.
#[derive(Debug)]
pub enum Input {
    /// Time went by; also the first input of all.
    Tick,
    Spawned {
        index: usize,
        pid: i32,
        ticks: u64,
    },
    /// The disk has no room for what the container needs: it is tried again, and nothing has run.
    NoRoom {
        index: usize,
        message: String,
    },
    SpawnFailed {
        index: usize,
        message: String,
    },
    /// A start that a lost supervisor had announced has not taken place.
    NotSpawned {
        index: usize,
    },
    /// A container has ended without a witness.
    Lost {
        index: usize,
    },
    Exited {
        index: usize,
        death: Death,
    },
    /// A hook has a process.
    HookBegan {
        index: usize,
        process: Identity,
    },
    HookEnded {
        index: usize,
        moment: Moment,
        result: Result<(), String>,
    },
    StartupPassed {
        index: usize,
        id: String,
    },
    /// What a container writes cannot be kept.
    LogLost {
        index: usize,
        message: String,
    },
    /// One container is to end, as after a failed liveness probe.
    End {
        index: usize,
        id: String,
        grace_ms: u64,
        message: String,
    },
    Stop {
        grace_ms: u64,
    },
    Provide {
        index: usize,
        launch: Launch,
        image: Option<String>,
    },
}

/// What to do. Spawns are answered with `Spawned` or `SpawnFailed`, hooks with `HookEnded`.
#[derive(Debug, PartialEq)]
pub enum Action {
    Spawn {
        index: usize,
        restart_count: u32,
    },
    Signal {
        index: usize,
        signal: i32,
    },
    Kill {
        index: usize,
    },
    RunHook {
        index: usize,
        moment: Moment,
    },
    /// A lost supervisor has run this hook, or was about to: it is gone on with, and run only if it was not.
    ResumeHook {
        index: usize,
        moment: Moment,
        hook: HookRun,
    },
    CancelHook {
        index: usize,
        moment: Moment,
    },
    /// Write down how a container ended, for good.
    Record {
        index: usize,
        exit: Exit,
    },
    /// Nothing runs any more and nothing will.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    PostStart,
    PreStop,
}

#[derive(Debug)]
pub struct Machine {
    plan: PodPlan,
    boot_id: String,
    cells: Vec<Cell>,
    initialized: bool,
    /// The init container whose turn it is.
    front: usize,
    stop: Option<StopState>,
    finished: bool,
    notices: VecDeque<Notice>,
    noticed: u64,
    /// Actions that a resumed machine owes from before its first step.
    backlog: Vec<Action>,
}

/// One container.
#[derive(Debug)]
struct Cell {
    life: Life,
    starts: u32,
    /// Fast restarts in a row.
    streak: u32,
    last: Option<Exit>,
    /// A sidecar that was started once does not hold up the init containers after it again.
    was_started: bool,
    /// Why it could not be made the last time.
    unmade: Option<String>,
}

#[derive(Debug)]
enum Life {
    // Idle => Spawning | Dropped
    Idle,
    // Spawning => Running | Idle | BackOff | Over
    Spawning {
        since_ms: u64,
    },
    // Running => BackOff | Over
    Running(Run),
    // BackOff => Spawning | Over
    BackOff(BackOff),
    /// Terminated and not to be started again.
    Over(Exit),
    /// Never started, and the pod has ended.
    Dropped,
}

#[derive(Debug)]
struct Run {
    id: String,
    pid: i32,
    ticks: u64,
    since_ms: u64,
    started_at: Timestamp,
    post_start_pending: bool,
    startup_pending: bool,
    ending: Option<Ending>,
    hook: Option<HookRun>,
}

impl HookRun {
    fn begin(now: Now) -> Self {
        Self { since_ms: now.mono_ms, process: None }
    }
}

impl Run {
    fn started(&self) -> bool {
        !self.post_start_pending && !self.startup_pending
    }
}

impl Machine {
    pub fn new(plan: PodPlan, boot_id: String) -> Self {
        let cells = plan
            .containers
            .iter()
            .map(|_| Cell { life: Life::Idle, starts: 0, streak: 0, last: None, was_started: false, unmade: None })
            .collect();
        Self {
            plan,
            boot_id,
            cells,
            initialized: false,
            front: 0,
            stop: None,
            finished: false,
            notices: VecDeque::new(),
            noticed: 0,
            backlog: Vec::new(),
        }
    }

    pub fn plan(&self) -> &PodPlan {
        &self.plan
    }

    /// Takes in what happened and says what to do, completely: stepping again at the same time yields nothing new.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        if self.finished {
            return out;
        }
        out.append(&mut self.backlog);
        self.take(input, now, &mut out);
        if self.stop.is_none() {
            self.bring_up(now, &mut out);
        }
        if self.stop.is_some() {
            self.wind_down(now, &mut out);
        }
        self.expire(now, &mut out);
        out
    }

    /// When to step with a `Tick` at the latest.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let due = self.cells.iter().filter_map(|cell| match &cell.life {
            Life::BackOff(BackOff { until_ms, .. }) => Some(*until_ms),
            Life::Running(Run { ending: Some(ending), .. }) if ending.phase != Phase::Killed => {
                Some(ending.deadline_ms)
            }
            _ => None,
        });
        due.min()
    }

    pub fn finished(&self) -> bool {
        self.finished
    }

    fn take(&mut self, input: Input, now: Now, out: &mut Vec<Action>) {
        match input {
            Input::Tick => {}
            Input::Spawned { index, pid, ticks } => self.spawned(index, pid, ticks, now, out),
            Input::SpawnFailed { index, message } => self.spawn_failed(index, message, now, out),
            Input::NoRoom { index, message } => self.no_room(index, message, now),
            Input::NotSpawned { index } => self.not_spawned(index, now),
            Input::Lost { index } => self.lost(index, now, out),
            Input::Exited { index, death } => self.exited(index, death, now, out),
            Input::HookBegan { index, process } => {
                if let Life::Running(Run { hook: Some(hook), .. }) = &mut self.cells[index].life {
                    hook.process = Some(process);
                }
            }
            Input::HookEnded { index, moment, result } => self.hook_ended(index, moment, result, now, out),
            Input::LogLost { index, message } => self.notice(index, "LogLost", message, true, now),
            Input::StartupPassed { index, id } => {
                if let Life::Running(run) = &mut self.cells[index].life
                    && run.id == id
                {
                    run.startup_pending = false;
                }
            }
            Input::End { index, id, grace_ms, message } => {
                if matches!(&self.cells[index].life, Life::Running(run) if run.id == id && run.ending.is_none()) {
                    self.notice(index, "Killing", message, false, now);
                    self.end(index, now.mono_ms + grace_ms, now, out);
                }
            }
            Input::Stop { grace_ms } => self.begin_stop(grace_ms, true, now),
            Input::Provide { index, launch, image } => {
                let plan = &mut self.plan.containers[index];
                plan.launch = launch;
                plan.image = image.unwrap_or_else(|| std::mem::take(&mut plan.image));
            }
        }
    }

    fn spawned(&mut self, index: usize, pid: i32, ticks: u64, now: Now, out: &mut Vec<Action>) {
        let plan = &self.plan.containers[index];
        let (post_start_pending, startup_pending) = (plan.post_start.is_some(), plan.startup_probe);
        let id = self.container_id(index);
        self.cells[index].unmade = None;
        self.cells[index].life = Life::Running(Run {
            id,
            pid,
            ticks,
            since_ms: now.mono_ms,
            started_at: now.wall,
            post_start_pending,
            startup_pending,
            ending: None,
            hook: post_start_pending.then(|| HookRun::begin(now)),
        });
        self.notice(index, "Started", "Container started".to_owned(), false, now);
        if post_start_pending {
            out.push(Action::RunHook { index, moment: Moment::PostStart });
        }
    }

    /// As if it had not been tried, but for what is said of it.
    fn no_room(&mut self, index: usize, message: String, now: Now) {
        self.not_spawned(index, now);
        let cell = &mut self.cells[index];
        cell.life = Life::BackOff(BackOff { until_ms: now.mono_ms + ROOM_RETRY_MS, delay_ms: 0 });
        let told = format!("Error: {message}");
        if cell.unmade.replace(message) != cell.unmade {
            self.notice(index, "Failed", told, true, now);
        }
    }

    fn spawn_failed(&mut self, index: usize, message: String, now: Now, out: &mut Vec<Action>) {
        self.notice(index, "Failed", format!("Error: {message}"), true, now);
        let exit = Exit {
            id: self.container_id(index),
            restart_count: self.cells[index].starts - 1,
            code: START_ERROR,
            signal: None,
            reason: "StartError".to_owned(),
            message,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: now.wall,
        };
        self.after_exit(index, exit, 0, now, out);
    }

    fn exited(&mut self, index: usize, death: Death, now: Now, out: &mut Vec<Action>) {
        let restart_count = self.cells[index].starts.saturating_sub(1);
        let Life::Running(run) = &mut self.cells[index].life else { return };
        if run.post_start_pending {
            out.push(Action::CancelHook { index, moment: Moment::PostStart });
        }
        if matches!(run.ending, Some(Ending { phase: Phase::PreStop, .. })) {
            out.push(Action::CancelHook { index, moment: Moment::PreStop });
        }
        let exit = Exit {
            id: std::mem::take(&mut run.id),
            restart_count,
            code: death.code,
            signal: death.signal,
            reason: death.reason().to_owned(),
            message: death.message,
            started_at: run.started_at,
            finished_at: now.wall,
        };
        let ran_ms = now.mono_ms.saturating_sub(run.since_ms);
        self.after_exit(index, exit, ran_ms, now, out);
    }

    /// Writes the end down and decides whether the container gets another start.
    fn after_exit(&mut self, index: usize, exit: Exit, ran_ms: u64, now: Now, out: &mut Vec<Action>) {
        out.push(Action::Record { index, exit: exit.clone() });
        let again = self.stop.is_none() && self.restarts(index, exit.code);
        let cell = &mut self.cells[index];
        if ran_ms >= backoff::BACKOFF_RESET_MS {
            cell.streak = 0;
        }
        if !again {
            cell.life = Life::Over(exit);
            return;
        }
        let delay_ms = backoff::delay_ms(cell.streak);
        cell.streak = cell.streak.saturating_add(1);
        cell.last = Some(exit);
        cell.life = Life::BackOff(BackOff { until_ms: now.mono_ms + delay_ms, delay_ms });
        if delay_ms > 0 {
            let message = format!(
                "Back-off restarting failed container {} in pod {}",
                self.plan.containers[index].name,
                self.pod()
            );
            self.notice(index, "BackOff", message, true, now);
        }
    }

    fn restarts(&self, index: usize, code: i32) -> bool {
        let container = &self.plan.containers[index];
        if container.restart_after.iter().any(|codes| codes.contains(code)) {
            return true;
        }
        match (container.role, container.restart_policy.unwrap_or(self.plan.restart_policy)) {
            (Role::Sidecar, _) | (Role::App, RestartPolicy::Always) => true,
            (Role::Init, RestartPolicy::Never) | (Role::App, RestartPolicy::Never) => false,
            (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure) | (Role::App, RestartPolicy::OnFailure) => {
                code != 0
            }
        }
    }

    fn hook_ended(
        &mut self,
        index: usize,
        moment: Moment,
        result: Result<(), String>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Life::Running(run) = &mut self.cells[index].life else { return };
        match moment {
            Moment::PostStart if !run.post_start_pending => {}
            Moment::PostStart => {
                (run.post_start_pending, run.hook) = (false, None);
                if let Err(message) = result {
                    self.notice(index, "FailedPostStartHook", format!("PostStartHook failed: {message}"), true, now);
                    self.notice(index, "Killing", "FailedPostStartHook".to_owned(), false, now);
                    let grace_ms = self.plan.grace_seconds * 1000;
                    self.end(index, now.mono_ms + grace_ms, now, out);
                }
            }
            Moment::PreStop => {
                if let Err(message) = result {
                    self.notice(index, "FailedPreStopHook", format!("PreStopHook failed: {message}"), true, now);
                }
                self.signal(index, now, out);
            }
        }
    }

    fn begin_stop(&mut self, grace_ms: u64, requested: bool, now: Now) {
        let deadline_ms = now.mono_ms.saturating_add(grace_ms);
        match &mut self.stop {
            Some(stop) => {
                stop.deadline_ms = stop.deadline_ms.min(deadline_ms);
                stop.requested |= requested;
            }
            None => self.stop = Some(StopState { since_ms: now.mono_ms, deadline_ms, requested }),
        }
    }

    fn container_id(&self, index: usize) -> String {
        let restart_count = self.cells[index].starts.saturating_sub(1);
        format!("{}-{}-{restart_count}", self.plan.uid, self.plan.containers[index].name)
    }

    /// The pod as events and messages name it.
    fn pod(&self) -> String {
        format!("{}_{}({})", self.plan.name, self.plan.namespace, self.plan.uid)
    }
}
