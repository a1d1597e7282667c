//! Statuses as one line: `phase conditions | containers`.

use sluice_pod::wire::StopState;

use super::*;

const PROCESSES: Runtime<'static> = Runtime { confined: false, plan: None, own_ids: (7, 8) };

fn pod(spec: &serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "generation": 3}, "spec": spec}))
        .expect("a pod")
}

fn state(containers: &[(&str, Condition)]) -> PodState {
    let containers = containers.iter().map(|(name, condition)| wire::ContainerState {
        name: (*name).to_owned(),
        restart_count: 0,
        streak: 0,
        condition: condition.clone(),
        progress: wire::Progress::default(),
        last: None,
    });
    PodState { initialized: true, containers: containers.collect(), ..PodState::default() }
}

fn runs(started: bool) -> Condition {
    Condition::Running { id: "id".to_owned(), pid: 1, ticks: 1, started_at: Timestamp::UNIX_EPOCH, started }
}

fn ended(code: i32) -> Condition {
    Condition::Terminated(exit(code))
}

fn exit(code: i32) -> Exit {
    Exit {
        id: "id".to_owned(),
        restart_count: 0,
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
    }
}

fn waits(reason: &str) -> Condition {
    Condition::Waiting { reason: reason.to_owned(), message: String::new() }
}

fn of(pod: &Pod, state: Option<&PodState>, ready: &[&str]) -> PodStatus {
    let facts = Facts {
        pod_ip: [127, 64, 0, 1].into(),
        pod_ip_v6: None,
        host_ip: [10, 0, 0, 1].into(),
        allocatable: Default::default(),
    };
    let ready = ready.iter().map(|name| (*name).to_owned()).collect();
    status(&Observed {
        pod,
        reported: None,
        facts: Some(&facts),
        state,
        runtime: PROCESSES,
        ready: &ready,
        deadline_exceeded: false,
        now: Timestamp::UNIX_EPOCH,
    })
}

/// True conditions by their initials (Sandbox, Initialized, Ready, Containers), then the reason for not being ready.
fn show(status: &PodStatus) -> String {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind).expect(kind);
    let kinds = [("PodReadyToStartContainers", 'S'), ("Initialized", 'I'), ("Ready", 'R'), ("ContainersReady", 'C')];
    let held: String = kinds.iter().filter(|(kind, _)| find(kind).status == "True").map(|(_, letter)| letter).collect();
    let ready = find("Ready");
    let why = [&ready.reason, &ready.message].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(": ");
    format!("{} {held} {why}", status.phase.as_deref().unwrap_or_default()).trim_end().to_owned()
}

#[test]
fn a_pod_of_one_container_goes_through_its_phases() {
    let pod = pod(&serde_json::json!({"containers": [{"name": "web"}]}));
    let check = |state: Option<PodState>, ready: &[&str], expected: &str| {
        assert_eq!(show(&of(&pod, state.as_ref(), ready)), expected);
    };
    let finished = |condition| PodState { finished: true, ..state(&[("web", condition)]) };
    check(None, &[], "Pending I ContainersNotReady: containers with unready status: [web]");
    check(
        Some(state(&[("web", waits("ErrImagePull"))])),
        &[],
        "Pending SI ContainersNotReady: containers with unready status: [web]",
    );
    check(
        Some(state(&[("web", runs(true))])),
        &[],
        "Running SI ContainersNotReady: containers with unready status: [web]",
    );
    check(
        Some(state(&[("web", runs(false))])),
        &["web"],
        "Running SI ContainersNotReady: containers with unready status: [web]",
    );
    check(Some(state(&[("web", runs(true))])), &["web"], "Running SIRC");
    check(Some(finished(ended(0))), &[], "Succeeded I PodCompleted");
    check(Some(finished(ended(1))), &[], "Failed I PodFailed");
}

#[test]
fn a_crashing_container_keeps_its_pod_running() {
    let pod = pod(&serde_json::json!({"containers": [{"name": "web"}]}));
    let mut crashing = state(&[("web", waits("CrashLoopBackOff"))]);
    crashing.containers[0].last = Some(exit(1));
    crashing.containers[0].restart_count = 4;
    let status = of(&pod, Some(&crashing), &["web"]);
    assert_eq!(show(&status), "Running SI ContainersNotReady: containers with unready status: [web]");
    let web = &status.container_statuses.expect("statuses")[0];
    assert_eq!((web.restart_count, web.ready, web.started), (4, false, Some(false)));
    assert_eq!(web.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(|t| t.exit_code), Some(1));
}

#[test]
fn init_containers_and_sidecars_count_in_their_own_ways() {
    let pod = pod(&serde_json::json!({
        "initContainers": [{"name": "prepare"}, {"name": "proxy", "restartPolicy": "Always"}], "containers": [{"name": "web"}],
    }));
    let preparing = PodState {
        initialized: false,
        ..state(&[("prepare", runs(true)), ("proxy", waits("PodInitializing")), ("web", waits("PodInitializing"))])
    };
    let status = of(&pod, Some(&preparing), &[]);
    assert_eq!(show(&status), "Pending S ContainersNotReady: containers with unready status: [proxy web]");
    let initialized = &status.conditions.as_ref().expect("conditions")[1];
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [prepare proxy]"));
    let up = state(&[("prepare", ended(0)), ("proxy", runs(true)), ("web", runs(true))]);
    assert_eq!(
        show(&of(&pod, Some(&up), &["web"])),
        "Running SI ContainersNotReady: containers with unready status: [proxy]"
    );
    let status = of(&pod, Some(&up), &["web", "proxy"]);
    assert_eq!(show(&status), "Running SIRC");
    assert!(status.init_container_statuses.expect("statuses").iter().all(|init| init.ready));
    let failed = PodState {
        finished: true,
        initialized: false,
        ..state(&[("prepare", ended(1)), ("proxy", waits("PodInitializing")), ("web", waits("PodInitializing"))])
    };
    assert_eq!(show(&of(&pod, Some(&failed), &[])), "Failed  PodFailed");
}

#[test]
fn readiness_gates_have_their_say() {
    let mut pod = pod(&serde_json::json!({
        "containers": [{"name": "web"}], "readinessGates": [{"conditionType": "example.com/lb"}],
    }));
    let up = state(&[("web", runs(true))]);
    assert_eq!(
        show(&of(&pod, Some(&up), &["web"])),
        "Running SIC ReadinessGatesNotReady: corresponding condition of pod readiness gate \"example.com/lb\" does not exist."
    );
    let mut gate = |status: &str| {
        let condition =
            PodCondition { type_: "example.com/lb".to_owned(), status: status.to_owned(), ..PodCondition::default() };
        pod.status = Some(PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() });
        show(&of(&pod, Some(&up), &["web"]))
    };
    assert_eq!(
        gate("False"),
        "Running SIC ReadinessGatesNotReady: the status of pod readiness gate \"example.com/lb\" is not \"True\", but False"
    );
    assert_eq!(gate("True"), "Running SIRC");
}

#[test]
fn a_second_look_changes_nothing() {
    let mut pod = pod(&serde_json::json!({"containers": [{"name": "web"}]}));
    let up = PodState {
        stop: Some(StopState { since_ms: 0, deadline_ms: 1, requested: true }),
        ..state(&[("web", runs(true))])
    };
    let first = of(&pod, Some(&up), &["web"]);
    pod.status = Some(first.clone());
    let facts = Facts {
        pod_ip: [127, 64, 0, 1].into(),
        pod_ip_v6: None,
        host_ip: [10, 0, 0, 1].into(),
        allocatable: Default::default(),
    };
    let ready = ["web".to_owned()].into();
    let later = Timestamp::from_second(100).expect("a time");
    assert_eq!(
        status(&Observed {
            pod: &pod,
            reported: None,
            facts: Some(&facts),
            state: Some(&up),
            runtime: PROCESSES,
            ready: &ready,
            deadline_exceeded: false,
            now: later
        }),
        first
    );
}

/// A plan of one container that starts with this command.
fn plan(command: &serde_json::Value) -> PodPlan {
    serde_json::from_value(serde_json::json!({
        "version": 1, "namespace": "n", "name": "p", "uid": "u", "restartPolicy": "Always", "graceSeconds": 1,
        "logDir": "/", "containers": [{
            "name": "web", "role": "App", "image": "i", "launch": {"ready": command}, "terminationFile": "/",
        }],
    }))
    .expect("a plan")
}

#[test]
fn a_container_tells_who_it_runs_as() {
    let check = |confined, command: serde_json::Value, expected: Option<(i64, i64, &[i64])>| {
        let plan = plan(&command);
        let runtime = Runtime { confined, plan: Some(&plan), own_ids: (7, 8) };
        let user = runtime.user("web").and_then(|user| user.linux);
        let got =
            user.as_ref().map(|user| (user.uid, user.gid, user.supplemental_groups.as_deref().unwrap_or_default()));
        assert_eq!(got, expected);
    };
    let process = |ids: serde_json::Value| {
        let mut command = serde_json::json!({"argv": ["a"], "env": [], "dir": "/"});
        command.as_object_mut().expect("an object").extend(ids.as_object().expect("ids").clone());
        command
    };
    check(false, process(serde_json::json!({})), Some((7, 8, &[8])));
    check(false, process(serde_json::json!({"uid": 1000, "gid": 5})), Some((1000, 5, &[5])));
    let confined = |user: &str, uid: Option<u32>| {
        process(serde_json::json!({"uid": uid, "confinement": {
            "container": "web", "root": "machine", "imageUser": user, "groups": [7],
        }}))
    };
    check(true, confined("", None), Some((0, 0, &[0, 7])));
    check(true, confined("101:102", None), Some((101, 102, &[7, 102])));
    check(true, confined("nginx", Some(33)), Some((33, 0, &[0, 7])));
    check(true, confined("nginx", None), None);
}

#[test]
fn last_words_of_many_containers_are_cut_short() {
    let mut plan = plan(&serde_json::json!({"argv": ["a"], "env": [], "dir": "/"}));
    plan.containers = vec![plan.containers[0].clone(); 4];
    let runtime = Runtime { plan: Some(&plan), ..PROCESSES };
    let long = "ü".repeat(2048);
    assert_eq!(PROCESSES.shortened(&long), long);
    assert_eq!(runtime.shortened(&long), "ü".repeat(3072 / 2));
    plan.containers.truncate(1);
    assert_eq!(Runtime { plan: Some(&plan), ..PROCESSES }.shortened(&long), long);
}

#[test]
fn a_container_status_says_what_was_given() {
    let pod = pod(&serde_json::json!({"containers": [{
        "name": "web", "image": "i",
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}},
        "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b", "readOnly": true}],
    }]}));
    let of = |state: &PodState| {
        let web = of(&pod, Some(state), &["web"]).container_statuses.expect("statuses").remove(0);
        serde_json::to_value(web).expect("a status")
    };
    let mounts = serde_json::json!([
        {"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "Disabled"},
    ]);
    let up = of(&state(&[("web", runs(true))]));
    let resources = serde_json::json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}});
    assert_eq!(
        ["allocatedResources", "resources", "volumeMounts", "containerID", "imageID"].map(|field| &up[field]),
        [&serde_json::json!({"cpu": "100m"}), &resources, &mounts, &"process://id".into(), &"i".into()],
    );
    let waiting = of(&state(&[("web", waits("ContainerCreating"))]));
    assert_eq!((waiting.get("resources"), waiting.get("containerID"), &waiting["imageID"]), (None, None, &"".into()));
    assert_eq!(waiting["volumeMounts"], mounts);
    let runtime = Runtime { confined: true, ..PROCESSES };
    assert_eq!(runtime.container_id("id"), "container://id");
    for (wanted, confined, expected) in [
        ("Disabled", true, "Disabled"),
        ("Enabled", true, "Enabled"),
        ("IfPossible", true, "Enabled"),
        ("IfPossible", false, "Disabled"),
    ] {
        let mount = serde_json::json!({"name": "m", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": wanted});
        let status = mount_status(&serde_json::from_value(mount).expect("a mount"), confined);
        assert_eq!(status.recursive_read_only.as_deref(), Some(expected), "{wanted} {confined}");
    }
}
