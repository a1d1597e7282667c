use serde_json::{Value, json};

use super::*;

/// `name state`, the state one of `running`, `Complete`, `Failed`; `start` is the minute of its start.
fn job(name: &str, state: &str, start: u8) -> Arc<Job> {
    let at = format!("2026-01-01T00:{start:02}:00Z");
    let mut status = json!({"startTime": at});
    if state != "running" {
        status["conditions"] = json!([{"type": state, "status": "True"}]);
        status["completionTime"] = json!(at);
    }
    let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c", "controller": true}]);
    let job =
        json!({"metadata": {"name": name, "namespace": "x", "uid": name, "ownerReferences": owner}, "status": status});
    Arc::new(serde_json::from_value(job).unwrap())
}

fn cron(spec: &Value, active: &[&str], last_start: &str) -> CronJob {
    let mut whole = json!({"schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let active: Vec<_> = active.iter().map(|name| json!({"name": name, "uid": name})).collect();
    let cron = json!({"metadata": {"name": "c", "namespace": "x", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": whole, "status": {"active": active, "lastScheduleTime": format!("2026-01-01T{last_start}Z")}});
    serde_json::from_value(cron).unwrap()
}

/// At 01:00:05, the start of 01:00 not made yet unless said otherwise.
fn check(cron: &CronJob, children: &[Arc<Job>], expected: &str) {
    let now = "2026-01-01T01:00:05Z".parse().unwrap();
    let decision = decide(cron, children, &TimeZone::UTC, now);
    let names = |jobs: &[Arc<Job>]| jobs.iter().map(|job| job.name_any()).collect::<Vec<_>>().join(" ");
    let mut told: Vec<_> = decision.notes.iter().map(|note| note.reason.to_owned()).collect();
    if let Some(start) = &decision.start {
        told.push(format!("start {}", start.job.name_any()));
        if !start.replaced.is_empty() {
            told.push(format!("instead of {}", names(&start.replaced)));
        }
    }
    if !decision.forgotten.is_empty() {
        told.push(format!("forget {}", names(&decision.forgotten)));
    }
    let active: Vec<_> = decision.status.active.iter().flatten().filter_map(|it| it.name.clone()).collect();
    told.push(format!("active: {}", active.join(" ")));
    assert_eq!(told.join(", "), expected);
}

const NEXT: &str = "c-29453820";

#[test]
fn a_job_is_started_when_it_is_due() {
    check(&cron(&json!({}), &[], "00:50:00"), &[], &format!("start {NEXT}, active: "));
    check(&cron(&json!({}), &[], "01:00:00"), &[], "active: ");
    check(&cron(&json!({"suspend": true}), &[], "00:50:00"), &[], "active: ");
    check(&cron(&json!({"startingDeadlineSeconds": 4}), &[], "00:50:00"), &[], "active: ");
    check(&cron(&json!({"startingDeadlineSeconds": 5}), &[], "00:50:00"), &[], "active: ");
    check(&cron(&json!({"startingDeadlineSeconds": 6}), &[], "00:50:00"), &[], &format!("start {NEXT}, active: "));
    let minutely = json!({"schedule": "@every 1s"});
    check(&cron(&minutely, &[], "00:50:00"), &[], &format!("TooManyMissedTimes, start {NEXT}, active: "));
    check(&cron(&json!({"timeZone": "No/Where"}), &[], "00:50:00"), &[], "UnknownTimeZone, active: ");
    check(&cron(&json!({"schedule": "x"}), &[], "00:50:00"), &[], "UnparseableSchedule, active: ");
}

#[test]
fn a_running_job_lets_the_next_start_or_not_or_makes_room() {
    let running = [job("old", "running", 50)];
    let with = |policy: &str| cron(&json!({"concurrencyPolicy": policy}), &["old"], "00:50:00");
    check(&with("Allow"), &running, &format!("start {NEXT}, active: old"));
    check(&with("Forbid"), &running, "JobAlreadyActive, active: old");
    check(&with("Replace"), &running, &format!("start {NEXT}, instead of old, active: old"));
}

#[test]
fn the_list_of_active_jobs_follows_what_is_there() {
    let children = [job("done", "Complete", 10), job("stranger", "running", 20)];
    let cron = cron(&json!({}), &["done", "gone"], "01:00:00");
    check(&cron, &children, "SawCompletedJob, UnexpectedJob, MissingJob, active: ");
    let status = decide(&cron, &children, &TimeZone::UTC, Timestamp::UNIX_EPOCH).status;
    assert_eq!(status.last_successful_time, children[0].status.as_ref().unwrap().completion_time);
}

#[test]
fn the_oldest_are_forgotten() {
    let children =
        [job("b", "Complete", 20), job("a", "Complete", 10), job("f", "Failed", 5), job("c", "Complete", 30)];
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1});
    check(&cron(&limits, &[], "01:00:00"), &children, "forget a b, active: ");
    check(&cron(&json!({"failedJobsHistoryLimit": 0}), &[], "01:00:00"), &children, "forget f, active: ");
}

#[test]
fn a_job_knows_its_time_in_the_zone_of_its_schedule() {
    let annotation = |zone: Value| {
        let cron = cron(&json!({"timeZone": zone}), &[], "00:50:00");
        let decision = decide(&cron, &[], &TimeZone::UTC, "2026-01-01T01:00:05Z".parse().unwrap());
        decision.start.unwrap().job.annotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"].clone()
    };
    assert_eq!(annotation(json!("Asia/Kolkata")), "2026-01-01T06:30:00+05:30");
    assert_eq!(annotation(json!(null)), "2026-01-01T01:00:00Z");
}
