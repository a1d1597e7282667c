//! What `plan` prints before anything runs.

use sluice_model::rollout::RolloutSpec;
use sluice_release::{Desired, Fences, plan};

fn printed(spec: &str, replicas: u32) -> String {
    let spec: RolloutSpec = serde_json::from_str(spec).expect("a spec");
    let desired = Desired::read(&spec).unwrap_or_else(|errors| panic!("{errors:?}"));
    plan(&desired, replicas, Fences { surge: 1, unavailable: 0 }).to_string()
}

#[test]
fn a_canary_with_routes() {
    let spec = r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}],
      "steps": [{"traffic": "1%", "hold": "5m", "checks": ["errors"]},
                {"name": "insiders", "traffic": "25%", "sticky": {"by": "cookie:visitor"}, "match": [{"path": {"value": "/beta"}, "headers": [{"name": "x", "value": "1"}]}]}],
      "checks": [{"name": "errors", "metric": {"name": "error-rate", "max": "1%"}}], "keepOld": {"for": "30m"}}"#;
    insta::assert_snapshot!(printed(spec, 10), @r"
      #  step      candidate  stable  traffic  then
      1  1%                1      10       1%  hold 5m; checks errors
      2  insiders          3      10      25%  match path /beta*, header x=1; sticky by cookie:visitor
      3  full             10      10     100%  go on when ready
    10 replicas, at most 20 pods, 5m of holds
    note: the replaced version stays up for 30m after the last step
    ");
}

#[test]
fn mirrors_before_a_canary() {
    let spec = r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}],
      "steps": [{"name": "shadow", "mirror": "20%", "hold": "1h"}, {"name": "writes", "mirror": "100%", "methods": ["POST"], "candidate": 2},
                {"name": "both", "traffic": "50%", "mirror": "50%"}]}"#;
    insta::assert_snapshot!(printed(spec, 10), @r"
      #  step    candidate  stable  traffic  then
      1  shadow          2      10       0%  mirror 20%; hold 1h
      2  writes          2      10       0%  mirror 100% of POST
      3  both            8      10      50%  mirror 50%
      4  full           10      10     100%  go on when ready
    10 replicas, at most 20 pods, 1h of holds
    ");
}

#[test]
fn a_canary_without_routes() {
    let spec =
        r#"{"target": {"name": "shop"}, "strategy": "Canary", "canary": {"weights": ["20%", "50%"], "hold": "10m"}}"#;
    insta::assert_snapshot!(printed(spec, 5), @r"
      #  step  candidate  stable  traffic  then
      1  20%           1       4      20%  hold 10m
      2  50%           3       3      50%  hold 10m
      3  full          5       0     100%  go on when ready
    5 replicas, at most 6 pods, 20m of holds
    note: no route is split: every ready pod takes an equal part of the traffic
    ");
}

#[test]
fn presets() {
    let blue_green = r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}], "strategy": "BlueGreen",
      "blueGreen": {"before": "approval", "after": "10m"}}"#;
    insta::assert_snapshot!(printed(blue_green, 3), @r"
      #  step     candidate  stable  traffic  then
      1  preview          3       3       0%  wait for approval
      2  switch           3       3     100%  hold 10m
    3 replicas, at most 6 pods, 10m of holds and 1 approval
    ");
    insta::assert_snapshot!(printed(r#"{"target": {"name": "shop"}, "strategy": "Rolling"}"#, 4), @r"
      #  step  candidate  stable  traffic  then
      1  roll          4       0     100%  go on when ready
    4 replicas, at most 5 pods, 0s of holds
    note: no route is split: every ready pod takes an equal part of the traffic
    ");
    insta::assert_snapshot!(printed(r#"{"target": {"name": "shop"}, "strategy": "Recreate"}"#, 4), @r"
      #  step   candidate  stable  traffic  then
      1  stop           0       0       0%  go on when ready
      2  start          4       0     100%  go on when ready
    4 replicas, at most 4 pods, 0s of holds
    note: no pod runs between `stop` and `start`: requests fail in that time
    ");
    let manual =
        r#"{"target": {"name": "shop"}, "routes": [{"name": "shop"}], "strategy": "Canary", "release": "Manual"}"#;
    insta::assert_snapshot!(printed(manual, 4), @r"
      #  step      candidate  stable  traffic  then
      1  deployed          1       4       0%  wait for approval
      2  5%                1       4       5%  hold 1m
      3  25%               1       4      25%  hold 1m
      4  50%               2       4      50%  hold 1m
      5  full              4       4     100%  go on when ready
    4 replicas, at most 8 pods, 3m of holds and 1 approval
    ");
}

#[test]
fn a_plan_is_also_data() {
    let spec: RolloutSpec =
        serde_json::from_str(r#"{"target": {"name": "shop"}, "strategy": "Rolling"}"#).expect("a spec");
    let desired = Desired::read(&spec).expect("a right spec");
    let json = serde_json::to_string(&plan(&desired, 4, Fences::default())).expect("a plan is data");
    insta::assert_snapshot!(json, @r#"{"replicas":4,"steps":[{"name":"roll","candidate":4,"stable":0,"traffic":"100%"}],"peakPods":5,"holds":"0s","approvals":0,"notes":["no route is split: every ready pod takes an equal part of the traffic"]}"#);
}
