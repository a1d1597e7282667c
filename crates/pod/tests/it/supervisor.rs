//! The supervisor end to end: real processes, pipes, signals and files.

use std::fs;

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::pod::{Pod, alive, container, eventually, of, runs, supervise};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials!("supervisor":
        a_job_runs_to_its_end,
        a_crash_is_restarted_and_leaves_its_log,
        a_command_that_does_not_exist_says_so,
        init_containers_and_sidecars_keep_their_order,
        a_stop_lets_the_process_finish,
        a_stubborn_process_is_killed,
        hooks_run_around_the_process,
        a_failing_post_start_hook_ends_the_container,
        commands_run_beside_a_container,
        background_children_end_with_their_container,
        one_directory_has_one_supervisor,
        a_killed_supervisor_loses_nothing,
        a_killed_supervisor_and_keeper_lose_nothing_that_runs,
        a_killed_keeper_is_replaced_by_its_supervisor,
        a_terminal_outlives_the_keeper,
        a_hook_outlives_its_supervisor_and_runs_once,
        after_a_reboot_containers_have_ended_in_an_unknown_way_and_start_again,
        lines_of_any_length_are_logged_whole,
        an_exit_code_outlives_the_supervisor,
        a_start_that_a_kill_cut_off_counts_only_if_its_program_began,
        deadlines_of_a_stop_outlive_the_supervisor,
        a_flood_of_output_stays_small_and_whole,
        last_words_come_from_the_file_or_the_log,
        a_withheld_container_starts_when_provided,
        unknown_verbs_are_refused_and_harmless,
        a_bad_plan_is_an_error_that_says_so,
    )
}

fn a_job_runs_to_its_end() {
    let mut pod = Pod::start("Never", &[container("App", "job", "echo hello $NAME; echo oops >&2; exit 3")]);
    let state = pod.until_gone();
    assert_eq!(state["finished"], true);
    let exit = &of(&state, "job")["condition"]["terminated"];
    assert_eq!((exit["code"].as_i64(), exit["reason"].as_str()), (Some(3), Some("Error")));
    assert_eq!(pod.log("job/0.log").lines().collect::<std::collections::BTreeSet<_>>().len(), 2);
    assert!(pod.log("job/0.log").contains("stdout F hello job"));
    assert!(pod.log("job/0.log").contains("stderr F oops"));
    let exits = fs::read_to_string(pod.path("exits.jsonl")).expect("exit records");
    assert_eq!(serde_json::from_str::<Value>(exits.trim()).expect("one line"), *exit);
    assert!(!pod.path("supervisor.sock").exists());
}

fn a_crash_is_restarted_and_leaves_its_log() {
    let script = "if [ -e again ]; then echo second; exec sleep 1000; fi; touch again; echo first; kill -9 $$";
    let mut pod = Pod::start("Always", &[container("App", "web", script)]);
    let state = pod.until("it runs again", |state| runs(state, "web") && of(state, "web")["restartCount"] == 1);
    let last = &of(state, "web")["last"];
    assert_eq!((last["code"].as_i64(), last["signal"].as_i64()), (Some(137), Some(9)));
    eventually("the second log", || pod.log("web/1.log") == "stdout F second");
    assert_eq!(pod.log("web/0.log"), "stdout F first");
}

fn a_command_that_does_not_exist_says_so() {
    let mut bad = container("App", "web", "");
    bad["launch"]["ready"]["argv"] = json!(["/no/such/program"]);
    let mut pod = Pod::start("Always", &[bad]);
    let waiting = |state: &Value| of(state, "web")["condition"]["waiting"]["reason"] == "CrashLoopBackOff";
    let state = pod.until("it backs off", waiting);
    let last = &of(state, "web")["last"];
    assert_eq!((last["code"].as_i64(), last["reason"].as_str()), (Some(128), Some("StartError")));
    let message = "cannot start `/no/such/program`: no such program; give its full path or check $PATH";
    assert_eq!(last["message"], message);
}

fn init_containers_and_sidecars_keep_their_order() {
    let containers = [
        container("Init", "first", "echo first >> order"),
        container(
            "Sidecar",
            "side",
            "echo side >> order; trap 'echo side ends >> order; exit 0' TERM; while :; do sleep 0.01; done",
        ),
        container("Init", "second", "until grep -q side order; do sleep 0.01; done; echo second >> order"),
        container("App", "app", "echo app >> order"),
    ];
    let mut pod = Pod::start("Never", &containers);
    let state = pod.until_gone();
    assert_eq!(fs::read_to_string(pod.path("order")).expect("an order"), "first\nside\nsecond\napp\nside ends\n");
    assert_eq!(of(&state, "app")["condition"]["terminated"]["reason"], "Completed");
}

fn a_stop_lets_the_process_finish() {
    let script = "trap 'echo finishing; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut pod = Pod::start("Always", &[container("App", "web", script)]);
    eventually("it is ready", || pod.log("web/0.log").contains("ready"));
    assert_eq!(pod.call(&json!({"verb": "stop", "graceSeconds": 30})), "done");
    let state = pod.until_gone();
    assert_eq!(of(&state, "web")["condition"]["terminated"]["code"], 0);
    assert_eq!(state["stop"]["requested"], true);
    assert!(pod.log("web/0.log").contains("stdout F finishing"));
}

fn a_stubborn_process_is_killed() {
    let mut pod =
        Pod::start("Always", &[container("App", "web", "trap '' TERM; echo ready; while :; do sleep 0.01; done")]);
    eventually("it is ready", || pod.log("web/0.log").contains("ready"));
    pod.send(&json!({"verb": "stop", "graceSeconds": 0}));
    let state = pod.until_gone();
    let exit = &of(&state, "web")["condition"]["terminated"];
    assert_eq!((exit["code"].as_i64(), exit["signal"].as_i64()), (Some(137), Some(9)));
}

fn hooks_run_around_the_process() {
    let mut web =
        container("App", "web", "trap 'echo term >> order; exit 0' TERM; echo up; while :; do sleep 0.01; done");
    web["postStart"] = json!({"exec": {"command": ["/bin/sh", "-c", "echo postStart $NAME >> order"]}});
    web["preStop"] = json!({"exec": {"command": ["/bin/sh", "-c", "echo preStop >> order"]}});
    let mut pod = Pod::start("Always", &[web]);
    pod.until("it is started", |state| of(state, "web")["condition"]["running"]["started"] == true);
    eventually("it is up", || pod.log("web/0.log").contains("up"));
    pod.send(&json!({"verb": "stop", "graceSeconds": 30}));
    pod.until_gone();
    assert_eq!(fs::read_to_string(pod.path("order")).expect("an order"), "postStart web\npreStop\nterm\n");
}

fn a_failing_post_start_hook_ends_the_container() {
    let mut web = container("App", "web", "exec sleep 1000");
    web["postStart"] = json!({"exec": {"command": ["/bin/sh", "-c", "echo broken; exit 7"]}});
    let mut pod = Pod::start("Never", &[web]);
    let state = pod.until_gone();
    assert_eq!(of(&state, "web")["condition"]["terminated"]["code"], 143);
    let notices = state["notices"].as_array().expect("notices");
    let failed = notices.iter().find(|notice| notice["reason"] == "FailedPostStartHook").expect("a notice");
    assert_eq!(failed["message"], "PostStartHook failed: exit code 7: broken");
}

fn commands_run_beside_a_container() {
    let mut pod = Pod::start("Always", &[container("App", "web", "exec sleep 1000")]);
    pod.until("it runs", |state| runs(state, "web"));
    let exec = |script: &str, timeout_ms: u64| json!({"verb": "exec", "container": "web", "command": ["/bin/sh", "-c", script], "timeoutMs": timeout_ms});
    assert_eq!(
        pod.call(&exec("echo $NAME; exit 4", 10_000)),
        json!({"exec": {"exited": {"code": 4, "output": "web\n"}}})
    );
    assert_eq!(pod.call(&exec("sleep 1000", 50)), json!({"exec": "timedOut"}));
    let failed = pod.call(&json!({"verb": "exec", "container": "web", "command": ["/no/such"], "timeoutMs": 1000}));
    assert!(failed["exec"]["failed"].as_str().is_some_and(|text| text.contains("no such program")), "{failed}");
}

fn background_children_end_with_their_container() {
    let mut pod =
        Pod::start("Never", &[container("App", "web", "sleep 1000 & echo $! > child; setsid sleep 1000 & exit 0")]);
    pod.until_gone();
    let child: i32 = fs::read_to_string(pod.path("child")).expect("a pid").trim().parse().expect("a number");
    eventually("the child is gone", || !alive(child));
    let ours = || {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        processes.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == pod.path(""))).count()
    };
    eventually("nothing of the pod is left", || ours() == 0);
}

fn one_directory_has_one_supervisor() {
    let mut pod = Pod::start("Always", &[container("App", "web", "exec sleep 1000")]);
    pod.until("it runs", |state| runs(state, "web"));
    let (started, said) = supervise(&pod.path(""));
    assert!(!started);
    assert_eq!(said, "pod-supervisor: another supervisor runs this pod already\n");
    assert_eq!(
        pod.call(&json!({"verb": "status"}))["state"]["containers"][0]["name"],
        "web",
        "the first one is unharmed"
    );
}

/// Counts until it is told to end.
const COUNT: &str = "trap 'exit 7' TERM; n=0; while :; do n=$((n+1)); echo line $n; sleep 0.002; done";

fn pid(state: &Value, container: &str) -> Pid {
    let pid = of(state, container)["condition"]["running"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    Pid::from_raw(pid.expect("a pid")).expect("no zero")
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it was there");
}

/// The numbers that a counting container has logged, none missing and none twice.
fn assert_counted(log: &str) {
    // The shell may say on stderr that its `sleep` was terminated.
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("stdout")).collect();
    assert!(lines.len() > 3, "{log}");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("stdout F line {}", number + 1));
    }
}

fn a_killed_supervisor_loses_nothing() {
    let mut pod = Pod::start("Always", &[container("App", "web", COUNT), container("App", "other", "exec sleep 1000")]);
    let before = pod.until("it runs", |state| runs(state, "web") && runs(state, "other"))["containers"].clone();
    for round in 1..=20 {
        eventually("it counts on", || pod.log("web/0.log").lines().count() > 3 * round);
        kill(Pid::from_raw(pod.supervisor()).expect("a pid"));
        pod.until_gone();
        pod = pod.reconnect();
    }
    let after = pod.until("it runs", |state| runs(state, "web"))["containers"].clone();
    assert_eq!(after, before, "same processes, same ids, same counts");
    pod.send(&json!({"verb": "stop", "graceSeconds": 30}));
    let state = pod.until_gone();
    assert_eq!(of(&state, "web")["condition"]["terminated"]["code"], 7);
    assert_counted(&pod.log("web/0.log"));
}

/// Whoever is left of a keeper and its supervisor starts the other one again: stopped first, they die together.
fn kill_together(pids: [i32; 2]) {
    for signal in [Signal::STOP, Signal::KILL] {
        pids.iter().for_each(|pid| kill_process(Pid::from_raw(*pid).expect("a pid"), signal).expect("it was there"));
    }
    eventually("they are gone", || !pids.iter().any(|pid| alive(*pid)));
}

fn a_killed_keeper_is_replaced_by_its_supervisor() {
    let mut pod = Pod::start("Always", &[container("App", "web", COUNT)]);
    let before = pod.until("it runs", |state| runs(state, "web"))["containers"].clone();
    for round in 1..=5 {
        eventually("it counts on", || pod.log("web/0.log").lines().count() > 3 * round);
        let (keeper, supervisor) = (pod.keeper(), pod.supervisor());
        kill(Pid::from_raw(keeper).expect("a pid"));
        pod.until_gone();
        pod = pod.reconnect();
        assert_eq!(pod.until("it runs", |state| runs(state, "web"))["containers"], before);
        assert_eq!(pod.keeper(), supervisor, "who was the supervisor is the keeper");
    }
    // What a keeper is there for is there again.
    kill(Pid::from_raw(pod.supervisor()).expect("a pid"));
    pod.until_gone();
    pod = pod.reconnect();
    pod.until("it runs", |state| runs(state, "web"));
    pod.send(&json!({"verb": "stop", "graceSeconds": 30}));
    let state = pod.until_gone();
    assert_eq!(of(&state, "web")["condition"]["terminated"]["code"], 7);
    assert_counted(&pod.log("web/0.log"));
}

fn a_terminal_outlives_the_keeper() {
    let mut web = container("App", "web", "echo up; read line; echo heard $line; exit 3");
    (web["tty"], web["stdin"]) = (json!(true), json!(true));
    let mut pod = Pod::start("Never", &[web]);
    eventually("it is up", || pod.log("web/0.log").contains("up"));
    kill(Pid::from_raw(pod.keeper()).expect("a pid"));
    pod.until_gone();
    let mut pod = pod.reconnect();
    pod.until("it runs on", |state| runs(state, "web"));
    pod.send(&json!({"verb": "stop", "graceSeconds": 0}));
    let state = pod.until_gone();
    assert_ne!(of(&state, "web")["condition"]["terminated"]["signal"], 1, "nobody hung up");
}

fn a_hook_outlives_its_supervisor_and_runs_once() {
    let mut web = container("App", "web", "trap 'echo term >> order; exit 0' TERM; while :; do sleep 0.01; done");
    let hook = "echo begin >> order; until [ -e go ]; do sleep 0.01; done; echo says; echo end >> order";
    web["preStop"] = json!({"exec": {"command": ["/bin/sh", "-c", hook]}});
    let mut pod = Pod::start("Always", &[web]);
    pod.until("it runs", |state| runs(state, "web"));
    pod.send(&json!({"verb": "stop", "graceSeconds": 30}));
    let order = pod.path("order");
    eventually("the hook has begun", || fs::read_to_string(&order).is_ok_and(|order| order == "begin\n"));
    let deadline = |state: &Value| of(state, "web")["progress"]["ending"]["deadlineMs"].clone();
    let before = deadline(pod.until("it stops", |state| !deadline(state).is_null()));
    for _ in 0..2 {
        kill(Pid::from_raw(pod.supervisor()).expect("a pid"));
        pod.until_gone();
        pod = pod.reconnect();
        assert_eq!(deadline(pod.until("it stops", |state| !deadline(state).is_null())), before);
    }
    kill_together([pod.keeper(), pod.supervisor()]);
    pod.until_gone();
    pod = pod.resume();
    fs::write(pod.path("go"), "").expect("a file");
    pod.until_gone();
    assert_eq!(fs::read_to_string(&order).expect("an order"), "begin\nend\nterm\n");
}

fn after_a_reboot_containers_have_ended_in_an_unknown_way_and_start_again() {
    let containers = [container("Init", "first", "echo first >> order"), container("App", "web", "exec sleep 1000")];
    let mut pod = Pod::start("Always", &containers);
    let state = pod.until("it runs", |state| runs(state, "web"));
    let web = pid(state, "web");
    kill_together([pod.keeper(), pod.supervisor()]);
    kill(web);
    // Its process may be somebody else by now: only the boot id tells.
    let mut saved = pod.saved_state();
    saved["bootId"] = json!("another boot");
    fs::write(pod.path("state.json"), saved.to_string()).expect("a state");
    pod.until_gone();
    let mut pod = pod.resume();
    let state = pod.until("it runs again", |state| runs(state, "web") && of(state, "web")["restartCount"] == 1);
    let last = &of(state, "web")["last"];
    assert_eq!((last["code"].as_i64(), last["reason"].as_str()), (Some(137), Some("ContainerStatusUnknown")));
    assert_eq!(fs::read_to_string(pod.path("order")).expect("an order"), "first\nfirst\n", "init containers run again");
}

fn lines_of_any_length_are_logged_whole() {
    let script = "cut() { head -c $1 /dev/zero | tr '\\0' x; echo; }; echo; cut 16383; cut 16384; cut 16385; cut 10485760; \
                  printf '\\000\\377\\033\\r\\t\\200'; echo; printf end";
    let mut pod = Pod::start("Never", &[container("App", "web", script)]);
    pod.until_gone();
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    // Ten mebibytes do not go into one file with what comes before them.
    for name in ["web/0.log.2", "web/0.log.1", "web/0.log"] {
        let text = fs::read(pod.path("logs").join(name)).unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let parts: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
            lines.last_mut().expect("one").extend_from_slice(parts[3]);
            if parts[2] == b"F" {
                lines.push(Vec::new());
            }
        }
    }
    assert!(pod.path("logs/web/0.log.1").exists(), "it was rotated");
    let lengths: Vec<usize> = lines.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 16383, 16384, 16385, 10 << 20, 6, 3, 0]);
    assert_eq!(lines[5], b"\0\xff\x1b\r\t\x80");
    assert!(lines[4].iter().all(|byte| *byte == b'x'));
}

fn a_killed_supervisor_and_keeper_lose_nothing_that_runs() {
    let mut pod = Pod::start("Always", &[container("App", "web", COUNT)]);
    let before = pod.until("it runs", |state| runs(state, "web"))["containers"].clone();
    for round in 1..=5 {
        eventually("it counts on", || pod.log("web/0.log").lines().count() > 3 * round);
        kill_together([pod.keeper(), pod.supervisor()]);
        pod.until_gone();
        pod = pod.resume();
        assert_eq!(pod.until("it runs", |state| runs(state, "web"))["containers"], before);
    }
    pod.send(&json!({"verb": "stop", "graceSeconds": 30}));
    let state = pod.until_gone();
    assert_eq!(of(&state, "web")["condition"]["terminated"]["code"], 7);
    assert_counted(&pod.log("web/0.log"));
}

fn an_exit_code_outlives_the_supervisor() {
    let mut pod = Pod::start(
        "Never",
        &[container("App", "web", "echo up; trap 'echo last; exit 9' TERM; while :; do sleep 0.01; done")],
    );
    let state = pod.until("it runs", |state| runs(state, "web"));
    let (web, supervisor) = (pid(state, "web"), Pid::from_raw(pod.supervisor()).expect("a pid"));
    eventually("it is up", || pod.log("web/0.log").contains("up"));
    // The container ends while its supervisor cannot look, which is then gone.
    kill_process(supervisor, Signal::STOP).expect("it was there");
    kill_process(web, Signal::TERM).expect("it was there");
    eventually("it has ended", || !alive(web.as_raw_nonzero().get()));
    kill(supervisor);
    pod.until_gone();
    eventually("it is over", || pod.saved_state()["finished"] == true);
    assert_eq!(of(&pod.saved_state(), "web")["condition"]["terminated"]["code"], 9);
    assert_eq!(pod.log("web/0.log"), "stdout F up\nstdout F last");
    let exits = fs::read_to_string(pod.path("exits.jsonl")).expect("exit records");
    assert_eq!(exits.lines().count(), 1, "{exits}");
}

fn a_start_that_a_kill_cut_off_counts_only_if_its_program_began() {
    for (mark, restarts) in [("?", 0), ("", 1)] {
        let mut pod = Pod::start("Always", &[container("App", "web", "exec sleep 1000")]);
        let state = pod.until("it runs", |state| runs(state, "web")).clone();
        let (web, was) = (pid(&state, "web"), of(&state, "web")["condition"]["running"].clone());
        kill_together([pod.keeper(), pod.supervisor()]);
        kill(web);
        pod.until_gone();
        // What is left when all are killed between the announcement of a start and the news of its process.
        let mut saved = pod.saved_state();
        let cell = &mut saved["containers"][0];
        let running_since_ms = cell["progress"]["runningSinceMs"].as_u64().expect("a time");
        cell["progress"] = json!({"startingSinceMs": running_since_ms.saturating_sub(30_000)});
        cell["condition"] = json!({"waiting": {"reason": "ContainerCreating", "message": ""}});
        fs::write(pod.path("state.json"), saved.to_string()).expect("a state");
        let reaped = json!([{"pid": was["pid"], "ticks": was["ticks"], "status": 9}]);
        fs::write(pod.path("reaped.json"), reaped.to_string()).expect("a record");
        let begun = fs::read_to_string(pod.path("begun/web")).expect("a mark");
        assert_eq!(begun, format!("{}\n+", was["pid"]));
        fs::write(pod.path("begun/web"), begun + mark).expect("a mark");
        let mut pod = pod.resume();
        let another =
            |state: &Value| runs(state, "web") && of(state, "web")["condition"]["running"]["pid"] != was["pid"];
        let state = pod.until("it runs again", another);
        assert_eq!(of(state, "web")["restartCount"], restarts, "{mark}");
        assert_eq!(of(state, "web")["last"]["code"].as_i64(), (restarts == 1).then_some(137), "{mark}");
    }
}

fn deadlines_of_a_stop_outlive_the_supervisor() {
    let mut pod =
        Pod::start("Always", &[container("App", "web", "trap '' TERM; echo ready; while :; do sleep 0.01; done")]);
    eventually("it is ready", || pod.log("web/0.log").contains("ready"));
    assert_eq!(pod.call(&json!({"verb": "stop", "graceSeconds": 1})), "done");
    kill(Pid::from_raw(pod.supervisor()).expect("a pid"));
    pod.until_gone();
    eventually("it is over", || pod.saved_state()["finished"] == true);
    let state = pod.saved_state();
    let exit = &of(&state, "web")["condition"]["terminated"];
    assert_eq!((exit["code"].as_i64(), exit["signal"].as_i64()), (Some(137), Some(9)));
}

fn a_flood_of_output_stays_small_and_whole() {
    // 70 MiB: more than all the files of one container may hold.
    let script = "head -c 70000000 /dev/zero | tr '\\0' 'x' | fold -w 40000; printf '\\nlast\\n'";
    let mut pod = Pod::start("Never", &[container("App", "web", script)]);
    pod.until_gone();
    let files: Vec<_> = fs::read_dir(pod.path("logs/web")).expect("logs").flatten().collect();
    assert_eq!(files.len(), 5);
    let total: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert!((35 << 20..=50 << 20).contains(&total), "{total}");
    let log = pod.log("web/0.log");
    assert!(log.ends_with("stdout F last"));
    let lengths: Vec<usize> = log.lines().rev().skip(1).take(3).map(|line| line.len() - "stdout F ".len()).collect();
    assert_eq!(lengths, [40_000 - 2 * 16_384, 16_384, 16_384], "partial lines add up");
}

fn last_words_come_from_the_file_or_the_log() {
    let mut file = container("App", "file", "echo from the log; echo -n from the file > file.termination; exit 1");
    let mut log = container("App", "log", "echo one; echo two; exit 1");
    let mut none = container("App", "none", "echo silent; exit 1");
    for (container, from_logs) in [(&mut file, true), (&mut log, true), (&mut none, false)] {
        container["terminationFromLogs"] = json!(from_logs);
    }
    let mut pod = Pod::start("Never", &[file, log, none]);
    let state = pod.until_gone();
    let words =
        |name: &str| of(&state, name)["condition"]["terminated"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (words("file").as_str(), words("log").as_str(), words("none").as_str()),
        ("from the file", "one\ntwo", "")
    );
}

fn a_withheld_container_starts_when_provided() {
    let mut web = container("App", "web", "exec sleep 1000");
    let mut launch = web["launch"].take();
    web["launch"] = json!({"withheld": {"reason": "CreateContainerConfigError", "message": "no config"}});
    let mut pod = Pod::start("Always", &[web]);
    let condition = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "no config"}});
    pod.until("it says why", |state| of(state, "web")["condition"] == condition);
    launch["ready"]["dir"] = json!("/");
    assert_eq!(pod.call(&json!({"verb": "provide", "container": "web", "launch": launch})), "done");
    pod.until("it runs", |state| runs(state, "web"));
}

fn unknown_verbs_are_refused_and_harmless() {
    let mut pod = Pod::start("Always", &[container("App", "web", "exec sleep 1000")]);
    let refused = pod.call(&json!({"verb": "sing"}));
    assert!(refused["refused"].as_str().is_some_and(|text| text.contains("sing")), "{refused}");
    let refused = pod.call(&json!({"verb": "started", "container": "nobody", "id": "x"}));
    assert_eq!(refused, json!({"refused": "no container `nobody`"}));
    pod.until("it still runs", |state| runs(state, "web"));
}

fn a_bad_plan_is_an_error_that_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (started, said) = supervise(directory.path());
    assert!(!started);
    assert!(said.contains("is no plan that this version reads"), "{said}");
    fs::write(directory.path().join("plan.json"), "{").expect("a file");
    let (started, said) = supervise(directory.path());
    assert!(!started);
    assert!(said.contains("cannot read") && said.contains("EOF while parsing"), "{said}");
}
