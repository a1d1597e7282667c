//! Lives of pods as scripts: what happens on one side, what the machine asks for on the other.

use std::fmt::Write as _;

use super::*;
use crate::{
    plan::{Command, ContainerPlan, ExitCodes, Hook, PLAN_VERSION},
    wire::Condition,
};

/// A pod whose processes start when asked to and end when told so by the test or by SIGKILL.
struct World {
    machine: Machine,
    mono_ms: u64,
    transcript: String,
    stubborn: bool,
    next_pid: i32,
}

impl World {
    /// Containers by `role:name`, with `+postStart`, `+preStop`, `+startup` or `+withheld` behind the name.
    fn new(containers: &str, restart_policy: RestartPolicy) -> Self {
        Self::of(plan(containers, restart_policy))
    }

    fn of(plan: PodPlan) -> Self {
        let mut world = Self {
            machine: Machine::new(plan, "boot".to_owned()),
            mono_ms: 0,
            transcript: String::new(),
            stubborn: false,
            next_pid: 100,
        };
        world.feed(Input::Tick);
        world
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall: Timestamp::from_millisecond(self.mono_ms.cast_signed()).expect("small") }
    }

    fn name(&self, index: usize) -> String {
        self.machine.plan.containers[index].name.clone()
    }

    fn index(&self, name: &str) -> usize {
        self.machine.plan.containers.iter().position(|container| container.name == name).expect("a known container")
    }

    fn feed(&mut self, input: Input) {
        for action in self.machine.step(input, self.now()) {
            let line = match &action {
                Action::Spawn { index, restart_count } => format!("start {} #{restart_count}", self.name(*index)),
                Action::Signal { index, signal } => format!("signal {} {signal}", self.name(*index)),
                Action::Kill { index } => format!("kill {}", self.name(*index)),
                Action::RunHook { index, moment } => format!("{moment:?} {}", self.name(*index)),
                Action::ResumeHook { index, moment, .. } => format!("resume {moment:?} {}", self.name(*index)),
                Action::CancelHook { index, moment } => format!("cancel {moment:?} {}", self.name(*index)),
                Action::Record { index, exit } => format!("ended {} {} {}", self.name(*index), exit.code, exit.reason),
                Action::Finish => "finish".to_owned(),
            };
            writeln!(self.transcript, "{}.{:03} {line}", self.mono_ms / 1000, self.mono_ms % 1000).expect("a string");
            match action {
                Action::Spawn { index, .. } => {
                    self.next_pid += 1;
                    self.feed(Input::Spawned { index, pid: self.next_pid, ticks: 0 });
                }
                Action::Signal { index, .. } if !self.stubborn => {
                    self.feed(Input::Exited {
                        index,
                        death: Death { code: 143, signal: Some(15), ..Death::default() },
                    });
                }
                Action::Kill { index } => {
                    self.feed(Input::Exited { index, death: Death { code: 137, signal: Some(9), ..Death::default() } });
                }
                _ => {}
            }
        }
    }

    fn exit(&mut self, name: &str, code: i32) {
        let index = self.index(name);
        self.feed(Input::Exited { index, death: Death { code, ..Death::default() } });
    }

    fn hook(&mut self, name: &str, moment: Moment, result: Result<(), &str>) {
        let index = self.index(name);
        self.feed(Input::HookEnded { index, moment, result: result.map_err(str::to_owned) });
    }

    fn startup_passed(&mut self, name: &str) {
        let index = self.index(name);
        let id = self.machine.container_id(index);
        self.feed(Input::StartupPassed { index, id });
    }

    fn stop(&mut self, grace_seconds: u64) {
        self.feed(Input::Stop { grace_ms: grace_seconds * 1000 });
    }

    /// Lets time go by, waking the machine when it asked to be woken.
    fn pass(&mut self, seconds: u64) {
        let end = self.mono_ms + seconds * 1000;
        while let Some(wake) = self.machine.wake_at_ms().filter(|wake| *wake <= end) {
            self.mono_ms = self.mono_ms.max(wake);
            self.feed(Input::Tick);
        }
        self.mono_ms = end;
    }

    /// What was asked for since the last look.
    fn told(&mut self) -> String {
        std::mem::take(&mut self.transcript)
    }

    fn waiting(&self, name: &str) -> String {
        match &self.machine.state().container(name).expect("a known container").condition {
            Condition::Waiting { reason, message } => format!("{reason}: {message}"),
            other => format!("{other:?}"),
        }
    }

    fn reasons(&self, name: &str) -> Vec<String> {
        self.machine.notices.iter().filter(|n| n.container == name).map(|n| n.reason.clone()).collect()
    }
}

fn plan(containers: &str, restart_policy: RestartPolicy) -> PodPlan {
    let containers = containers.split_whitespace().map(|text| {
        let mut parts = text.split('+');
        let (role, name) = parts.next().and_then(|head| head.split_once(':')).expect("role:name");
        let traits: Vec<&str> = parts.collect();
        let hook = |wanted: &str| traits.contains(&wanted).then(|| Hook::Exec { command: vec!["true".to_owned()] });
        ContainerPlan {
            name: name.to_owned(),
            role: match role {
                "init" => Role::Init,
                "sidecar" => Role::Sidecar,
                _ => Role::App,
            },
            image: "host".to_owned(),
            launch: if traits.contains(&"withheld") {
                Launch::Withheld { reason: "ErrImagePull".to_owned(), message: "no such image".to_owned() }
            } else {
                ready()
            },
            post_start: hook("postStart"),
            pre_stop: hook("preStop"),
            stop_signal: None,
            startup_probe: traits.contains(&"startup"),
            restart_policy: None,
            restart_after: Vec::new(),
            termination_file: "/dev/null".into(),
            termination_from_logs: false,
            stdin: false,
            stdin_once: false,
            tty: false,
        }
    });
    PodPlan {
        version: PLAN_VERSION,
        namespace: "ns".to_owned(),
        name: "pod".to_owned(),
        uid: "uid".to_owned(),
        restart_policy,
        grace_seconds: 30,
        log_dir: "/tmp".into(),
        containers: containers.collect(),
        sandbox: None,
        resources: None,
    }
}

fn ready() -> Launch {
    Launch::Ready(Command {
        argv: vec!["true".to_owned()],
        env: Vec::new(),
        dir: "/".into(),
        pulled: false,
        stop_signal: None,
        uid: None,
        gid: None,
        confinement: None,
        bounds: None,
    })
}

#[test]
fn init_containers_run_in_order_and_sidecars_must_be_started_first() {
    let mut world = World::new("init:a sidecar:s+startup init:b app:web", RestartPolicy::Always);
    assert_eq!(world.told(), "0.000 start a #0\n");
    assert_eq!(world.waiting("web"), "PodInitializing: ");
    world.exit("a", 0);
    assert_eq!(world.told(), "0.000 ended a 0 Completed\n0.000 start s #0\n");
    world.startup_passed("s");
    assert_eq!(world.told(), "0.000 start b #0\n");
    world.exit("b", 0);
    assert_eq!(world.told(), "0.000 ended b 0 Completed\n0.000 start web #0\n");
    assert!(world.machine.state().initialized);
}

#[test]
fn a_failed_init_container_is_run_again_or_fails_the_pod() {
    let mut world = World::new("init:a app:web", RestartPolicy::Always);
    world.exit("a", 1);
    assert_eq!(world.told(), "0.000 start a #0\n0.000 ended a 1 Error\n0.000 start a #1\n");
    let mut world = World::new("sidecar:s init:a app:web", RestartPolicy::Never);
    world.exit("a", 1);
    assert_eq!(
        world.told(),
        "0.000 start s #0\n0.000 start a #0\n0.000 ended a 1 Error\n0.000 signal s 15\n0.000 ended s 143 Error\n0.000 finish\n"
    );
    assert_eq!(world.waiting("web"), "PodInitializing: ");
}

#[test]
fn a_crashing_container_waits_longer_each_time_until_it_runs_well() {
    let mut world = World::new("app:web", RestartPolicy::Always);
    for _ in 0..4 {
        world.exit("web", 1);
        world.pass(60);
    }
    assert_eq!(
        world.told(),
        "0.000 start web #0\n0.000 ended web 1 Error\n0.000 start web #1\n\
         60.000 ended web 1 Error\n61.000 start web #2\n\
         120.000 ended web 1 Error\n122.000 start web #3\n\
         180.000 ended web 1 Error\n184.000 start web #4\n"
    );
    world.pass(600);
    world.exit("web", 1);
    assert_eq!(world.told(), "840.000 ended web 1 Error\n840.000 start web #5\n");
    world.exit("web", 1);
    assert_eq!(world.waiting("web"), "CrashLoopBackOff: back-off 1s restarting failed container=web pod=pod_ns(uid)");
    assert_eq!(world.machine.state().container("web").expect("web").restart_count, 5);
}

#[test]
fn restart_policies_decide_who_gets_another_start() {
    for (policy, code, again) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 1, false),
    ] {
        let mut world = World::new("app:job", policy);
        world.exit("job", code);
        assert_eq!(world.told().contains("start job #1"), again, "{policy:?} {code}");
        assert_eq!(world.machine.finished(), !again, "{policy:?} {code}");
    }
}

#[test]
fn a_container_may_have_a_restart_policy_of_its_own() {
    use RestartPolicy::{Always, Never, OnFailure};
    let codes = |text: &str| match text.split_once(' ') {
        Some(("in", list)) => vec![ExitCodes::In(list.split(' ').filter_map(|code| code.parse().ok()).collect())],
        Some((_, list)) => vec![ExitCodes::NotIn(list.split(' ').filter_map(|code| code.parse().ok()).collect())],
        None => Vec::new(),
    };
    for (container, pod, own, rules, code, again) in [
        ("app:a", Never, Some(Always), "", 0, true),
        ("app:a", Never, Some(OnFailure), "", 0, false),
        ("app:a", Never, Some(OnFailure), "", 1, true),
        ("app:a", Always, Some(Never), "", 1, false),
        ("app:a", Always, Some(Never), "in 42", 42, true),
        ("app:a", Always, Some(Never), "in 42 43", 1, false),
        ("app:a", Never, None, "notIn 1 2", 3, true),
        ("app:a", Never, None, "notIn 1 2", 2, false),
        ("app:a", Always, Some(OnFailure), "in 0", 0, true),
        ("init:a", Always, Some(Never), "", 1, false),
        ("init:a", Never, Some(OnFailure), "", 1, true),
        ("init:a", Never, Some(Never), "in 9", 9, true),
    ] {
        let mut plan = plan(&format!("{container} app:other"), pod);
        (plan.containers[0].restart_policy, plan.containers[0].restart_after) = (own, codes(rules));
        let mut world = World::of(plan);
        world.exit("a", code);
        assert_eq!(world.told().contains("start a #1"), again, "{container} {pod:?} {own:?} {rules} {code}");
    }
}

#[test]
fn a_stop_signal_is_the_manifests_or_the_images() {
    for (own, of_image, expected) in [(None, None, 15), (None, Some(3), 3), (Some(10), Some(3), 10)] {
        let mut plan = plan("app:web", RestartPolicy::Always);
        plan.containers[0].stop_signal = own;
        let Launch::Ready(command) = &mut plan.containers[0].launch else { unreachable!("it is ready") };
        command.stop_signal = of_image;
        let mut world = World::of(plan);
        world.told();
        world.stop(30);
        assert!(world.told().starts_with(&format!("0.000 signal web {expected}\n")), "{own:?} {of_image:?}");
    }
}

#[test]
fn a_pull_is_told_once() {
    let mut plan = plan("app:web", RestartPolicy::Always);
    let Launch::Ready(command) = &mut plan.containers[0].launch else { unreachable!("it is ready") };
    command.pulled = true;
    let mut world = World::of(plan);
    assert_eq!(world.reasons("web"), ["Created", "Started"]);
    world.exit("web", 1);
    assert_eq!(world.reasons("web")[2..], ["Pulled", "Created", "Started"]);
}

#[test]
fn a_job_takes_its_sidecars_down_in_reverse_order() {
    let mut world = World::new("sidecar:first sidecar:second app:job", RestartPolicy::Never);
    world.told();
    world.exit("job", 0);
    assert_eq!(
        world.told(),
        "0.000 ended job 0 Completed\n0.000 signal second 15\n0.000 ended second 143 Error\n\
         0.000 signal first 15\n0.000 ended first 143 Error\n0.000 finish\n"
    );
}

#[test]
fn a_stop_goes_from_hook_over_signal_to_kill() {
    let mut world = World::new("app:web+preStop", RestartPolicy::Always);
    world.stubborn = true;
    world.told();
    world.stop(10);
    assert_eq!(world.told(), "0.000 PreStop web\n");
    world.pass(4);
    world.hook("web", Moment::PreStop, Ok(()));
    assert_eq!(world.told(), "4.000 signal web 15\n");
    world.pass(30);
    assert_eq!(world.told(), "10.000 kill web\n10.000 ended web 137 Error\n10.000 finish\n");
}

#[test]
fn a_hook_that_uses_up_the_grace_still_leaves_two_seconds_to_the_signal() {
    let mut world = World::new("app:web+preStop", RestartPolicy::Always);
    world.stubborn = true;
    world.told();
    world.stop(10);
    world.pass(30);
    assert_eq!(
        world.told(),
        "0.000 PreStop web\n10.000 cancel PreStop web\n10.000 signal web 15\n\
         12.000 kill web\n12.000 ended web 137 Error\n12.000 finish\n"
    );
    assert_eq!(world.reasons("web"), ["Pulled", "Created", "Started", "Killing", "FailedPreStopHook"]);
}

#[test]
fn a_forced_stop_skips_the_hook_and_cuts_a_running_one_short() {
    let mut world = World::new("app:web+preStop", RestartPolicy::Always);
    world.told();
    world.stop(0);
    assert_eq!(world.told(), "0.000 signal web 15\n0.000 ended web 143 Error\n0.000 finish\n");
    let mut world = World::new("app:web+preStop", RestartPolicy::Always);
    world.stubborn = true;
    world.told();
    world.stop(30);
    world.pass(1);
    world.stop(0);
    assert_eq!(world.told(), "0.000 PreStop web\n1.000 cancel PreStop web\n1.000 signal web 15\n");
    world.stop(30);
    world.pass(30);
    assert_eq!(world.told(), "3.000 kill web\n3.000 ended web 137 Error\n3.000 finish\n");
}

#[test]
fn sidecars_outlive_the_app_and_keep_their_share_of_the_grace() {
    let mut world = World::new("sidecar:log+preStop app:web", RestartPolicy::Always);
    world.stubborn = true;
    world.told();
    world.stop(30);
    world.pass(60);
    assert_eq!(
        world.told(),
        "0.000 signal web 15\n25.000 kill web\n25.000 ended web 137 Error\n25.000 PreStop log\n\
         30.000 cancel PreStop log\n30.000 signal log 15\n32.000 kill log\n32.000 ended log 137 Error\n32.000 finish\n"
    );
}

#[test]
fn a_container_counts_as_started_after_its_post_start_hook() {
    let mut world = World::new("app:web+postStart", RestartPolicy::Always);
    assert_eq!(world.told(), "0.000 start web #0\n0.000 PostStart web\n");
    let started = |world: &World| {
        matches!(
            world.machine.state().container("web").expect("web").condition,
            Condition::Running { started: true, .. }
        )
    };
    assert!(!started(&world));
    world.hook("web", Moment::PostStart, Ok(()));
    assert!(started(&world));
    let mut world = World::new("app:web+postStart", RestartPolicy::Always);
    world.told();
    world.hook("web", Moment::PostStart, Err("exit code 3"));
    assert_eq!(
        world.told(),
        "0.000 signal web 15\n0.000 ended web 143 Error\n0.000 start web #1\n0.000 PostStart web\n"
    );
    assert_eq!(world.reasons("web")[3..5], ["FailedPostStartHook", "Killing"]);
}

#[test]
fn one_container_can_be_ended_and_comes_back() {
    let mut world = World::new("app:web app:other", RestartPolicy::Always);
    world.told();
    let id = world.machine.container_id(0);
    let end = |id: &str| Input::End { index: 0, id: id.to_owned(), grace_ms: 5_000, message: "failed".to_owned() };
    world.feed(end("stale"));
    assert_eq!(world.told(), "");
    world.feed(end(&id));
    assert_eq!(world.told(), "0.000 signal web 15\n0.000 ended web 143 Error\n0.000 start web #1\n");
}

#[test]
fn a_withheld_container_says_why_and_starts_when_it_can() {
    let mut world = World::new("app:web+withheld app:other", RestartPolicy::Always);
    assert_eq!(world.told(), "0.000 start other #0\n");
    assert_eq!(world.waiting("web"), "ErrImagePull: no such image");
    world.feed(Input::Provide { index: 0, launch: ready(), image: None });
    assert_eq!(world.told(), "0.000 start web #0\n");
}

#[test]
fn a_command_that_cannot_run_is_retried_with_back_off() {
    let mut machine = Machine::new(plan("app:web", RestartPolicy::Always), "boot".to_owned());
    let now = Now { mono_ms: 0, wall: Timestamp::UNIX_EPOCH };
    machine.step(Input::Tick, now);
    for _ in 0..2 {
        machine.step(Input::SpawnFailed { index: 0, message: "no such file".to_owned() }, now);
    }
    let state = machine.state();
    let web = state.container("web").expect("web");
    assert_eq!(web.last.as_ref().map(|exit| (exit.code, exit.reason.as_str())), Some((128, "StartError")));
    assert!(matches!(&web.condition, Condition::Waiting { reason, .. } if reason == "CrashLoopBackOff"), "{web:?}");
}

#[test]
fn a_full_disk_delays_a_container_and_ends_no_pod() {
    let mut machine = Machine::new(plan("app:web", RestartPolicy::Never), "boot".to_owned());
    let mut now = Now { mono_ms: 0, wall: Timestamp::UNIX_EPOCH };
    let spawn = [Action::Spawn { index: 0, restart_count: 0 }];
    assert_eq!(machine.step(Input::Tick, now), spawn);
    for _ in 0..2 {
        machine.step(Input::NoRoom { index: 0, message: "no room in `/d`".to_owned() }, now);
        let web = machine.state().containers.remove(0);
        let expected =
            Condition::Waiting { reason: "CreateContainerError".to_owned(), message: "no room in `/d`".to_owned() };
        assert_eq!((web.condition, web.restart_count, web.last), (expected, 0, None));
        now.mono_ms = machine.wake_at_ms().expect("another try");
        assert_eq!(machine.step(Input::Tick, now), spawn, "the same start is tried again");
    }
    let told = machine.state().notices.iter().filter(|notice| notice.reason == "Failed").count();
    assert_eq!(told, 1, "it is said once");
    machine.step(Input::Spawned { index: 0, pid: 7, ticks: 7 }, now);
    assert!(matches!(machine.state().containers[0].condition, Condition::Running { .. }));
}

/// The same pod under another supervisor.
fn resumed(world: &World, boot_id: &str) -> Machine {
    Machine::resume(world.machine.plan.clone(), boot_id.to_owned(), &world.machine.state(), world.now())
}

#[test]
fn another_supervisor_changes_nothing() {
    let mut world = World::new("init:a sidecar:s app:web+postStart+preStop app:crash+startup", RestartPolicy::Always);
    let check = |world: &World| {
        let mut other = resumed(world, "boot");
        assert_eq!(other.state(), world.machine.state());
        assert_eq!(other.wake_at_ms(), world.machine.wake_at_ms());
        let hooks = |action: &Action| matches!(action, Action::ResumeHook { .. });
        let actions = other.step(Input::Tick, world.now());
        assert!(actions.iter().all(hooks), "only hooks are gone on with: {actions:?}");
    };
    check(&world);
    world.exit("a", 0);
    check(&world);
    world.exit("crash", 1);
    world.exit("crash", 1);
    check(&world);
    world.hook("web", Moment::PostStart, Ok(()));
    world.stop(30);
    check(&world);
    world.hook("web", Moment::PreStop, Ok(()));
    check(&world);
}

#[test]
fn a_hook_that_was_at_work_is_gone_on_with_and_not_run_twice() {
    let mut world = World::new("app:web+postStart+preStop", RestartPolicy::Always);
    let first = |world: &World| resumed(world, "boot").step(Input::Tick, world.now());
    let hook = HookRun { since_ms: 0, process: None };
    assert_eq!(first(&world), [Action::ResumeHook { index: 0, moment: Moment::PostStart, hook }]);
    world.hook("web", Moment::PostStart, Ok(()));
    assert_eq!(first(&world), []);
    world.pass(7);
    world.stop(30);
    let process = Identity { pid: 7, ticks: 8 };
    world.feed(Input::HookBegan { index: 0, process });
    let hook = HookRun { since_ms: 7000, process: Some(process) };
    assert_eq!(first(&world), [Action::ResumeHook { index: 0, moment: Moment::PreStop, hook }]);
    world.hook("web", Moment::PreStop, Ok(()));
    assert_eq!(first(&world), []);
}

#[test]
fn a_hook_that_an_earlier_version_left_behind_runs_again() {
    let mut world = World::new("app:web+preStop", RestartPolicy::Always);
    world.stop(30);
    let mut saved = world.machine.state();
    saved.containers[0].progress.hook = None;
    let mut resumed = Machine::resume(world.machine.plan.clone(), "boot".to_owned(), &saved, world.now());
    let expected = [Action::RunHook { index: 0, moment: Moment::PreStop }];
    assert_eq!(resumed.step(Input::Tick, world.now()), expected);
}

#[test]
fn an_end_that_nobody_saw_is_one_of_unknown_cause() {
    let mut world = World::new("init:a app:web", RestartPolicy::Always);
    world.exit("a", 0);
    world.exit("web", 1);
    let mut resumed = resumed(&world, "boot");
    let now = world.now();
    let actions = resumed.step(Input::Lost { index: 1 }, now);
    assert!(
        matches!(&actions[..], [Action::Record { exit, .. }] if exit.reason == "ContainerStatusUnknown"),
        "{actions:?}"
    );
    let later = Now { mono_ms: now.mono_ms + 1_000, ..now };
    assert_eq!(resumed.step(Input::Tick, later), [Action::Spawn { index: 1, restart_count: 2 }]);
}

#[test]
fn an_announced_start_is_found_or_made_up_for() {
    let start = |machine: &mut Machine| machine.step(Input::Tick, Now { mono_ms: 7, wall: Timestamp::UNIX_EPOCH });
    let mut machine = Machine::new(plan("app:web", RestartPolicy::Always), "boot".to_owned());
    let spawn = [Action::Spawn { index: 0, restart_count: 0 }];
    assert_eq!(start(&mut machine), spawn);
    let now = Now { mono_ms: 8, wall: Timestamp::UNIX_EPOCH };
    let again = || Machine::resume(machine.plan.clone(), "boot".to_owned(), &machine.state(), now);
    assert_eq!(again().announced(), [(0, 7)]);
    assert_eq!(again().step(Input::Spawned { index: 0, pid: 7, ticks: 1 }, now), []);
    assert_eq!(again().step(Input::NotSpawned { index: 0 }, now), spawn);
}

#[test]
fn a_reboot_ends_everything() {
    let mut world = World::new("init:a app:web", RestartPolicy::Always);
    world.exit("a", 0);
    let actions = resumed(&world, "other boot").step(Input::Tick, world.now());
    assert!(actions.contains(&Action::Spawn { index: 0, restart_count: 1 }), "init containers run again: {actions:?}");
}

#[test]
fn a_finished_pod_stays_finished() {
    let mut world = World::new("app:job", RestartPolicy::Never);
    world.exit("job", 0);
    let saved = world.machine.state();
    assert!(saved.finished);
    let mut resumed = Machine::resume(world.machine.plan.clone(), "boot".to_owned(), &saved, world.now());
    assert_eq!(resumed.step(Input::Tick, world.now()), []);
}
