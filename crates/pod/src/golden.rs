//! Formats that other versions of this program have written or will read: recordings of what they were, in `tests/golden`.
//!
//! A supervisor lives as long as its pod, so an agent meets what earlier versions have said and put down. Nothing of that may be
//! lost or mean something else: each recording is read and written again, and must be found in what comes out. More may come
//! out, since fields are only ever added. A change that breaks one of these tests breaks pods that run; what may be done
//! instead is a new version of the protocol or the plan, with a recording of its own beside the old ones.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    plan::{PLAN_VERSION, PodPlan},
    supervisor::keeper::Reaped,
    wire::{Call, Exit, Message, OLDEST_WIRE_VERSION, PodState, WIRE_VERSION},
};

/// Whole conversations, a line each: `{"agent": Call}` or `{"supervisor": Message}`.
pub(crate) const CONVERSATIONS: [(u32, &str); 2] =
    [(1, include_str!("../tests/golden/wire-1.jsonl")), (2, include_str!("../tests/golden/wire-2.jsonl"))];
const PLANS: [(u32, &str); 2] =
    [(1, include_str!("../tests/golden/plan-1.json")), (1, include_str!("../tests/golden/plan-1-process.json"))];
const STATES: [&str; 2] = [include_str!("../tests/golden/state-1.json"), include_str!("../tests/golden/state-2.json")];

/// Reads a recording and says what of it is not there when it is written again.
fn check<T: DeserializeOwned + Serialize>(recorded: &Value, what: &str) {
    let read: T =
        serde_json::from_value(recorded.clone()).unwrap_or_else(|error| panic!("{what}: {error}: {recorded}"));
    let written = serde_json::to_value(&read).expect("plain data");
    if let Some(lost) = lost(recorded, &written, "") {
        panic!("{what}: {lost}");
    }
}

fn lost(recorded: &Value, written: &Value, place: &str) -> Option<String> {
    match (recorded, written) {
        (Value::Object(recorded), Value::Object(written)) => recorded.iter().find_map(|(name, value)| {
            lost(value, written.get(name).unwrap_or(&Value::Null), &format!("{place}.{name}"))
        }),
        (Value::Array(recorded), Value::Array(written)) if recorded.len() == written.len() => {
            let both = recorded.iter().zip(written).enumerate();
            both.filter_map(|(number, (recorded, written))| lost(recorded, written, &format!("{place}[{number}]")))
                .next()
        }
        _ if recorded == written => None,
        _ => Some(format!("{place} was {recorded}, is {written}")),
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect("a recording is JSON")
}

#[test]
fn what_other_versions_say_is_understood() {
    for (version, conversation) in CONVERSATIONS {
        for (number, line) in conversation.lines().enumerate() {
            let (line, what) = (parse(line), format!("protocol {version}, line {}", number + 1));
            match (line.get("agent"), line.get("supervisor")) {
                (Some(call), None) if call["request"]["verb"] == "levitate" => {
                    assert!(serde_json::from_value::<Call>(call.clone()).is_err(), "{what}: nobody knows this verb");
                }
                (Some(call), None) => check::<Call>(call, &what),
                (None, Some(message)) => check::<Message>(message, &what),
                _ => panic!("{what}: neither agent nor supervisor"),
            }
        }
    }
}

#[test]
fn plans_and_records_of_other_versions_are_read() {
    for (version, plan) in PLANS {
        check::<PodPlan>(&parse(plan), &format!("plan {version}"));
    }
    for (number, state) in STATES.iter().enumerate() {
        check::<PodState>(&parse(state), &format!("state {}", number + 1));
    }
    for line in include_str!("../tests/golden/exits-1.jsonl").lines() {
        check::<Exit>(&parse(line), "exit record");
    }
    check::<Vec<Reaped>>(&parse(include_str!("../tests/golden/reaped-1.json")), "ends that a keeper has seen");
}

#[test]
fn every_version_that_is_spoken_is_recorded() {
    let spoken: Vec<u32> = (OLDEST_WIRE_VERSION..=WIRE_VERSION).collect();
    assert_eq!(CONVERSATIONS.map(|(version, _)| version).to_vec(), spoken);
    assert_eq!(PLANS.last().map(|(version, _)| *version), Some(PLAN_VERSION));
    for (version, conversation) in CONVERSATIONS {
        let verbs = ["status", "watch", "stop", "end", "started", "provide", "exec", "run", "attach"];
        for verb in verbs {
            assert!(
                conversation.contains(&format!(r#""verb":"{verb}""#)),
                "protocol {version}: `{verb}` is not recorded"
            );
        }
    }
}
