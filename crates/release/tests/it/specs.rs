//! What is wrong with a spec, and what would be right.

use sluice_model::rollout::RolloutSpec;
use sluice_release::Desired;

fn mistakes(rest: &str) -> String {
    let spec = format!(r#"{{"target": {{"name": "shop"}}, {rest}}}"#);
    let spec: RolloutSpec = serde_json::from_str(&spec).expect("a spec");
    let errors = Desired::read(&spec).expect_err("mistakes");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_mistake_names_its_field() {
    insta::assert_snapshot!(mistakes(r#""strategy": "Shadow""#), @"spec.strategy: `Shadow` is not in this version of Sluice; use Recreate, Rolling, BlueGreen, Canary, or steps");
    insta::assert_snapshot!(mistakes(r#""strategy": "Canary", "steps": [{}]"#), @"spec: exactly one of `strategy` and `steps` must be set");
    insta::assert_snapshot!(mistakes(r#""strategy": "Canary", "rolling": {}"#), @"spec.rolling: is for the strategy Rolling only");
    insta::assert_snapshot!(mistakes(
        r#""routes": [{"kind": "GRPCRoute", "name": "shop"}], "keepOld": {"for": "soon"}, "drain": "30",
           "steps": [{"traffic": "20%", "checks": ["errors"]}, {"traffic": "10", "hold": "10 minutes"}, {"traffic": "10%"},
                     {"traffic": "100%", "candidate": 1}, {"candidate": 0, "traffic": "100%"}]"#
    ), @r"
    spec.routes[0].kind: `GRPCRoute` cannot be split in this version of Sluice; use HTTPRoute or Ingress
    spec.steps[0].checks[0]: there is no check named `errors` in spec.checks
    spec.steps[1].traffic: `10` is no percentage; write for example `25%` or `0.5%`
    spec.steps[1].hold: `10 minutes` is no duration; write for example `30s`, `10m` or `1h30m`
    spec.steps[1].traffic: `0%` is less than the 20% of the step before; list the steps in rising order
    spec.steps[2].traffic: `10%` is less than the 20% of the step before; list the steps in rising order
    spec.steps[3].candidate: a step with traffic 100% needs all pods of the candidate; leave `candidate` out or write 100%
    spec.steps[4].candidate: 0 pods cannot take traffic; leave `candidate` out or ask for at least 1
    spec.keepOld.for: `soon` is no duration; write for example `30s`, `10m` or `1h30m`
    spec.drain: `30` is no duration; write for example `30s`, `10m` or `1h30m`
    ");
    insta::assert_snapshot!(mistakes(
        r#""routes": [{"name": "shop"}], "steps": [{"checks": ["a"]}],
           "checks": [{"name": "a"}, {"name": "a", "http": {}, "failures": 0},
                      {"name": "b", "at": "before", "metric": {"name": "error-rate", "max": "1%"}, "every": "10ms"},
                      {"name": "c", "metric": {"name": "p99", "max": "1%"}},
                      {"name": "d", "metric": {"name": "p99", "versus": "stable", "max": "50%"}},
                      {"name": "e", "metric": {"name": "latency", "max": "1%"}},
                      {"name": "f", "metric": {"name": "error-rate", "min": "1%"}}]"#
    ), @r"
    spec.checks[0]: exactly one of `http` and `metric` must be set
    spec.checks[1].name: `a` is the name of two checks
    spec.checks[1].failures: must be at least 1
    spec.checks[2].at: a metric is measured on the candidate's traffic; use `at: during`
    spec.checks[2].every: 10ms is too often; 100ms is the shortest pause between two measurements
    spec.checks[3].metric.max: `1%` is no duration; write for example `30s`, `10m` or `1h30m`
    spec.checks[4].metric.max: `50%` is less than the stable version itself; write for example `120%`
    spec.checks[5].metric.name: `latency` is no metric of the gateway; use error-rate, p50, p90, p95, p99 or throughput
    spec.checks[6].metric.name: `error-rate` is limited by `max`, and by it alone
    ");
    insta::assert_snapshot!(mistakes(
        r#""strategy": "Canary", "checks": [{"name": "smoke", "at": "before", "http": {}}], "keepOld": {"for": "1m"}"#
    ), @r"
    spec.checks[0].at: before needs `spec.routes`: without them every ready pod takes an equal part of the traffic
    spec.keepOld: an idle version needs `spec.routes`: without them every ready pod takes an equal part of the traffic
    ");
    insta::assert_snapshot!(mistakes(
        r#""routes": [{"name": "shop"}],
           "steps": [{"sticky": {"by": "query:id"}}, {"sticky": {"by": "header:a b", "maxAge": "long"}},
                     {"sticky": {"by": "claim:sub", "maxAge": "14d"}}, {"sticky": {"by": "cookie:v", "maxAge": "14d"}}]"#
    ), @r"
    spec.steps[0].sticky.by: `query:id` is neither `header:NAME`, `cookie:NAME` nor `claim:NAME`
    spec.steps[1].sticky.maxAge: `long` is no duration; write for example `30s`, `10m` or `1h30m`
    spec.steps[1].sticky.by: `a b` is no name of a header
    spec.steps[2].sticky.maxAge: only a cookie has an age, `claim:sub` has none
    ");
    insta::assert_snapshot!(mistakes(r#""strategy": "Canary", "canary": {"weights": ["20%"], "sticky": {"by": "claim:sub"}}"#), @"spec.plan[0].sticky: a sticky split needs `spec.routes`: without them every ready pod takes an equal part of the traffic");
    insta::assert_snapshot!(mistakes(
        r#""routes": [{"name": "shop"}],
           "steps": [{"mirror": "20"}, {"mirror": "20%", "methods": ["GET", "get", "CONNECT"]}, {"methods": ["POST"]},
                     {"mirror": "1%", "candidate": 0}]"#
    ), @r"
    spec.steps[0].mirror: `20` is no percentage; write for example `25%` or `0.5%`
    spec.steps[1].methods[1]: `get` is no method of requests that can be copied; use GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE
    spec.steps[1].methods[2]: `CONNECT` is no method of requests that can be copied; use GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE
    spec.steps[2].methods: there is nothing to copy; set `mirror` or `compare` as well, or leave it out
    spec.steps[3].candidate: 0 pods cannot take traffic; leave `candidate` out or ask for at least 1
    ");
    insta::assert_snapshot!(mistakes(
        r#""routes": [{"name": "shop"}],
           "steps": [{"mirror": "20%", "compare": {"sample": "20%"}}, {"compare": {"sample": "0%", "ignore": ["date", "json:id"]}},
                     {"compare": {"sample": "1%", "maxMismatch": 3, "headers": ["a b"]}, "candidate": 0}]"#
    ), @r"
    spec.steps[0].mirror: `compare` copies its sample already; leave `mirror` out
    spec.steps[1].compare.sample: must be more than 0%
    spec.steps[1].compare.ignore[0]: `date` is none of `json:$.PATH`, `header:NAME`, `order:$.PATH`, `status` and `body`
    spec.steps[1].compare.ignore[1]: `id` is no path; write for example `$.items[*].id`, `$..id` or `$['odd name']`
    spec.steps[2].compare.maxMismatch: `3` is no percentage; write for example `25%` or `0.5%`
    spec.steps[2].compare.headers[0]: `a b` is no name of a header
    spec.steps[2].candidate: 0 pods cannot take traffic; leave `candidate` out or ask for at least 1
    ");
    insta::assert_snapshot!(mistakes(r#""steps": [{"mirror": "20%", "candidate": 1}]"#), @"spec.steps[0].mirror: a mirror needs `spec.routes`: without them every ready pod takes an equal part of the traffic");
    insta::assert_snapshot!(mistakes(r#""strategy": "Rolling", "rolling": {"surge": 0, "unavailable": "0%"}"#), @"spec.rolling: `surge` and `unavailable` cannot both be 0");
    insta::assert_snapshot!(mistakes(r#""steps": [{"candidate": 1, "match": [{}]}]"#), @"spec.steps[0].match: a match needs `spec.routes`: without them every ready pod takes an equal part of the traffic");
}
