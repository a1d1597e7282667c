//! Whole passes over a Job: what is decided, what is noted, what it says afterwards.

use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn job(spec: &Value, status: &Value) -> Job {
    let mut whole = json!({"parallelism": 1, "backoffLimit": 6, "selector": {},
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({"metadata": {"name": "j", "namespace": "x", "uid": "j"}, "spec": whole, "status": status});
    serde_json::from_value(object).unwrap()
}

/// `name phase`, then any of: `@INDEX`, `-` (counted already), `!` (being deleted), `exit=CODE`, `failures=COUNT`, `ended=TIME`,
/// `restarts=COUNT`.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split_whitespace();
    let (name, phase) = (words.next().unwrap(), words.next().unwrap());
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "x", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
                     "annotations": {}, "finalizers": [TRACKING]},
        "spec": {"containers": []},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false,
                   "restartCount": 0, "state": {}}]},
    });
    for word in words {
        let container = "/status/containerStatuses/0";
        let mut set = |at: &str, value: Value| *pod.pointer_mut(at).unwrap() = value;
        match word.split_once('=') {
            None if word == "-" => set("/metadata/finalizers", json!([])),
            None if word == "!" => pod["metadata"]["deletionTimestamp"] = json!(NOW),
            None => pod["metadata"]["annotations"][tally::INDEX] = json!(word.trim_start_matches('@')),
            Some(("exit", code)) => {
                let code: i32 = code.parse().unwrap();
                set(
                    &format!("{container}/state"),
                    json!({"terminated": {"exitCode": code, "finishedAt": "2026-01-01T00:30:00Z"}}),
                );
            }
            Some(("ended", time)) => {
                let at = format!("2026-01-01T{time}Z");
                set(&format!("{container}/state"), json!({"terminated": {"exitCode": 1, "finishedAt": at}}));
            }
            Some(("failures", count)) => pod["metadata"]["annotations"][tally::INDEX_FAILURES] = json!(count),
            Some(("restarts", count)) => {
                let count: i32 = count.parse().unwrap();
                set(&format!("{container}/restartCount"), json!(count));
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
fn check(spec: Value, status: Value, pods: &[&str], expected: &str) {
    let (job, pods) = (job(&spec, &status), pods.iter().map(|text| pod(text)).collect::<Vec<_>>());
    let decision = decide(&job, &Tally::of(&job, &pods, None), NOW.parse().unwrap());
    assert_eq!(decision.to_string(), expected, "{spec} {status}");
}

#[test]
fn as_many_as_are_wanted_and_no_more_than_are_missing() {
    let three = json!({"completions": 3, "parallelism": 2});
    check(three.clone(), json!({}), &[], "create 2");
    check(three.clone(), json!({}), &["a Running"], "create 1");
    check(three.clone(), json!({"succeeded": 2}), &["a Running"], "nothing to do");
    check(three.clone(), json!({"succeeded": 2}), &["a Running", "b Pending"], "delete b");
    check(three.clone(), json!({"succeeded": 1}), &["a Succeeded", "b Running"], "nothing to do");
    check(three, json!({"succeeded": 2}), &["a Succeeded"], "nothing to do; SuccessCriteriaMet: CompletionsReached");
    check(json!({"completions": 0}), json!({}), &[], "nothing to do; SuccessCriteriaMet: CompletionsReached");
    check(json!({"parallelism": 0, "completions": 1}), json!({}), &["a Running"], "delete a");
}

#[test]
fn without_a_number_the_first_success_lets_the_others_finish() {
    let two = json!({"parallelism": 2});
    check(two.clone(), json!({}), &["a Running"], "create 1");
    check(two.clone(), json!({}), &["a Running", "b Succeeded"], "nothing to do");
    check(two, json!({"succeeded": 1}), &["b Succeeded"], "nothing to do; SuccessCriteriaMet: CompletionsReached");
}

#[test]
fn a_suspended_job_has_no_pods() {
    let suspended = json!({"completions": 1, "suspend": true, "activeDeadlineSeconds": 1});
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    check(suspended.clone(), started.clone(), &["a Running"], "delete a");
    check(suspended, started, &[], "nothing to do");
}

#[test]
fn failures_are_retried_later_and_later_and_not_for_ever() {
    let one = json!({"completions": 1, "backoffLimit": 2});
    check(one.clone(), json!({}), &["a Failed ended=00:59:57"], "nothing to do; again in 7s");
    check(one.clone(), json!({}), &["a Failed ended=00:30:00"], "create 1");
    let twice = ["a Failed ended=00:59:40 -", "b Failed ended=00:59:50"];
    check(one.clone(), json!({"failed": 1}), &twice, "nothing to do; again in 10s");
    let thrice = ["c Failed", "d Running"];
    check(one, json!({"failed": 2}), &thrice, "end d; FailureTarget: BackoffLimitExceeded");
}

#[test]
fn a_deleted_pod_has_failed_unless_only_failed_ones_are_replaced() {
    let limit = json!({"completions": 1, "backoffLimit": 0});
    check(limit, json!({}), &["a Running !"], "nothing to do; FailureTarget: BackoffLimitExceeded");
    let patient = json!({"completions": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed"});
    check(patient, json!({}), &["a Running !"], "nothing to do");
}

#[test]
fn containers_restarted_in_place_count_too() {
    let in_place = json!({"completions": 1, "backoffLimit": 3,
        "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}});
    check(in_place.clone(), json!({}), &["a Running restarts=2"], "nothing to do");
    check(in_place, json!({}), &["a Running restarts=3"], "end a; FailureTarget: BackoffLimitExceeded");
}

#[test]
fn a_deadline_is_waited_for_and_kept() {
    let hurried = json!({"completions": 1, "activeDeadlineSeconds": 3610});
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    check(hurried, started.clone(), &["a Running"], "nothing to do; again in 10s");
    let late = json!({"completions": 1, "activeDeadlineSeconds": 3600});
    check(late, started, &["a Running"], "end a; FailureTarget: DeadlineExceeded");
}

#[test]
fn what_was_said_of_the_end_stands() {
    let failing = json!({"conditions": [{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}]});
    check(json!({"completions": 1}), failing, &["a Running"], "end a; FailureTarget: DeadlineExceeded");
}

#[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
fn indexed(extra: Value) -> Value {
    let mut spec = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

#[test]
fn each_index_has_one_pod() {
    let plain = indexed(json!({}));
    check(plain.clone(), json!({}), &[], "create 3 (0,1,2)");
    check(plain.clone(), json!({"completedIndexes": "0,2"}), &["a Running @1"], "create 1 (3)");
    check(plain.clone(), json!({}), &["a Running @1", "b Pending @1", "c Running @7", "d Running"], "delete d, c, b");
    let all = ["a Succeeded @3", "b Succeeded @3 -"];
    check(plain, json!({"completedIndexes": "0-2"}), &all, "nothing to do; SuccessCriteriaMet: CompletionsReached");
}

#[test]
fn each_index_may_have_a_limit_of_its_own() {
    let once_more = indexed(json!({"completions": 3, "backoffLimitPerIndex": 1}));
    let pods = ["a Failed @0 ended=00:59:55", "b Failed @1 failures=1", "c Running @2"];
    check(once_more.clone(), json!({}), &pods, "nothing to do; again in 5s");
    let pods = ["a Failed @0 ended=00:30:00", "b Running @1", "c Running @2"];
    check(once_more.clone(), json!({}), &pods, "create 1 (0)");
    let last = ["c Succeeded @2"];
    let failed = json!({"failedIndexes": "0,1"});
    check(once_more, failed.clone(), &last, "nothing to do; FailureTarget: FailedIndexes");
    let few = indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}));
    check(few, failed, &["c Running @2"], "end c; FailureTarget: MaxFailedIndexesExceeded");
}

#[test]
fn policies_decide_over_failure_and_success() {
    let rule = |action: &str| json!({"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]});
    let with = |action: &str| json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": rule(action)});
    let pods = ["a Failed exit=42", "b Running"];
    check(with("FailJob"), json!({}), &pods, "end b; FailureTarget: PodFailurePolicy");
    check(with("Ignore"), json!({}), &pods, "nothing to do");
    check(with("Count"), json!({}), &pods, "end b; FailureTarget: BackoffLimitExceeded");
    let index =
        indexed(json!({"backoffLimitPerIndex": 5, "maxFailedIndexes": 0, "podFailurePolicy": rule("FailIndex")}));
    check(index, json!({}), &["a Failed exit=42 @0"], "nothing to do; FailureTarget: MaxFailedIndexesExceeded");
    let leader = indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}}));
    check(leader, json!({}), &["a Succeeded @0", "b Running @1"], "end b; SuccessCriteriaMet: SuccessPolicy");
}

/// A pass with everything that it decides carried out; pods that are let go are gone if they were to be deleted.
fn pass(job: &mut Job, pods: &mut Vec<Arc<Pod>>) -> Vec<String> {
    let now = NOW.parse().unwrap();
    let tally = Tally::of(job, pods, None);
    let decision = decide(job, &tally, now);
    let remaining = match &decision.act {
        Act::End(ended) => Remaining { active: 0, ready: 0, terminating: count(ended) },
        _ => Remaining { active: count(&tally.active), ready: tally.ready, terminating: tally.terminating },
    };
    let mut status = job.status.clone().unwrap_or_default();
    status::start(&mut status, job.spec.as_ref().unwrap(), now);
    let booking = status::book(job, status, pods, &tally, decision.verdict.as_ref(), remaining, now);
    let ended = matches!(decision.act, Act::End(_));
    pods.retain(|pod| !ended || !pod::is_active(pod));
    let gone: Vec<_> = booking.untracked.iter().map(|pod| pod.name_any()).collect();
    pods.iter_mut().filter(|pod| gone.contains(&pod.name_any())).for_each(|pod| {
        Arc::make_mut(pod).metadata.finalizers = None;
    });
    let tracked = pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pod.uid().unwrap()).collect();
    let (status, _) = status::settle(booking.noted, &tracked, decision.verdict.as_ref(), false, now);
    job.status = Some(status);
    gone
}

fn told(job: &Job) -> String {
    let status = job.status.clone().unwrap_or_default();
    let kinds: Vec<_> = status.conditions.unwrap_or_default().into_iter().map(|it| it.type_).collect();
    let number = |count: Option<i32>| count.unwrap_or(0);
    format!("{} succeeded, {} failed, {}", number(status.succeeded), number(status.failed), kinds.join(" "))
}

#[test]
fn each_end_is_counted_once() {
    let mut job = job(&json!({"completions": 3, "parallelism": 3}), &json!({}));
    let mut pods = vec![pod("a Succeeded"), pod("b Failed"), pod("c Running")];
    assert_eq!(pass(&mut job, &mut pods), ["a", "b"]);
    assert_eq!(told(&job), "1 succeeded, 1 failed, ");
    assert!(pass(&mut job, &mut pods).is_empty());
    assert_eq!(told(&job), "1 succeeded, 1 failed, ");
}

#[test]
fn what_was_noted_before_a_crash_is_counted_after_it() {
    let noted = json!({"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["gone"]}});
    let mut job = job(&json!({"completions": 5, "parallelism": 1}), &noted);
    let mut pods = vec![pod("a Succeeded"), pod("c Running")];
    assert_eq!(pass(&mut job, &mut pods), ["a"]);
    assert_eq!(told(&job), "2 succeeded, 1 failed, ");
}

#[test]
fn a_failed_job_counts_whom_it_ended_and_is_over_when_they_are_gone() {
    let mut job = job(&json!({"completions": 2, "backoffLimit": 0}), &json!({}));
    let mut pods = vec![pod("a Failed"), pod("b Running")];
    assert_eq!(pass(&mut job, &mut pods), ["a", "b"]);
    assert_eq!(told(&job), "0 succeeded, 2 failed, FailureTarget");
    pass(&mut job, &mut pods);
    assert_eq!(told(&job), "0 succeeded, 2 failed, FailureTarget Failed");
}

#[test]
fn a_job_that_has_succeeded_does_not_count_whom_it_ended() {
    let spec = indexed(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}));
    let mut job = job(&spec, &json!({}));
    let mut pods = vec![pod("a Succeeded @0"), pod("b Running @1"), pod("c Running @2 !")];
    assert_eq!(pass(&mut job, &mut pods), ["a", "b", "c"]);
    pods.clear();
    pass(&mut job, &mut pods);
    assert_eq!(told(&job), "1 succeeded, 0 failed, SuccessCriteriaMet Complete");
}

#[test]
fn the_last_failure_of_an_index_stays_until_it_is_tried_again() {
    let spec = indexed(json!({"completions": 1, "parallelism": 1, "backoffLimitPerIndex": 2}));
    let mut job = job(&spec, &json!({}));
    let mut pods = vec![pod("a Failed @0 ended=00:59:59")];
    assert!(pass(&mut job, &mut pods).is_empty());
    pods.push(pod("b Running @0 failures=1"));
    assert_eq!(pass(&mut job, &mut pods), ["a"]);
    assert_eq!(told(&job), "0 succeeded, 1 failed, ");
}

#[test]
fn pods_know_their_index() {
    let job = job(&indexed(json!({})), &json!({}));
    let made = template::pod(&job, &decide::Seat { index: Some(2), failures: Some((1, 0)) });
    assert_eq!(made.metadata.generate_name.as_deref(), Some("j-2-"));
    assert_eq!(made.labels()[tally::INDEX], "2");
    assert_eq!(made.annotations()[tally::INDEX_FAILURES], "1");
    let spec = made.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-2"));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
}
