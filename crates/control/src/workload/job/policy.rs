//! What a Job's policies say of a failed pod, and of the indexes that have succeeded.

use k8s_openapi::api::batch::v1::PodFailurePolicyOnPodConditionsPattern;
use k8s_openapi::api::batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use super::indexes::Indexes;

/// What becomes of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It counts against the limits, as it does without a policy.
    Count,
    Ignore,
    FailIndex,
    FailJob {
        message: String,
    },
}

/// The first rule that matches decides.
pub(super) fn consequence(rules: &[PodFailurePolicyRule], pod: &Pod) -> Consequence {
    let matched = rules.iter().enumerate().find_map(|(position, rule)| Some((position, rule, cause(rule, pod)?)));
    let Some((position, rule, cause)) = matched else { return Consequence::Count };
    match rule.action.as_str() {
        "Ignore" => Consequence::Ignore,
        "FailIndex" => Consequence::FailIndex,
        "FailJob" => {
            let message = format!("{cause} matching {} rule at index {position}", rule.action);
            Consequence::FailJob { message }
        }
        _ => Consequence::Count,
    }
}

/// What the rule saw in the pod, in words.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let mut containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let (container, code) = containers.find_map(|container| Some((container, exit_code(codes, container)?)))?;
        return Some(format!("Container {} for pod {} failed with exit code {code}", container.name, name()));
    }
    let patterns = rule.on_pod_conditions.as_deref()?;
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| patterns.iter().any(|pattern| fits(pattern, condition)))?;
    Some(format!("Pod {} has condition {}", name(), condition.type_))
}

fn exit_code(codes: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus) -> Option<i32> {
    if codes.container_name.as_ref().is_some_and(|name| *name != container.name) {
        return None;
    }
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let is_listed = codes.values.contains(&code);
    let matches = match codes.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        _ => false,
    };
    (code != 0 && matches).then_some(code)
}

fn fits(pattern: &PodFailurePolicyOnPodConditionsPattern, condition: &PodCondition) -> bool {
    pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
}

/// The first rule that the succeeded indexes fulfil, in words.
pub(super) fn success(policy: &SuccessPolicy, completions: i32, succeeded: &Indexes) -> Option<String> {
    let position = policy.rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(indexes), count) => {
            let wanted = Indexes::parse(indexes, completions);
            wanted.shared_with(succeeded) >= count.unwrap_or_else(|| wanted.total())
        }
        (None, Some(count)) => succeeded.total() >= count,
        (None, None) => false,
    })?;
    Some(format!("Matched rules at index {position}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
    fn check(rules: Value, status: Value, expected: Consequence) {
        let rules: Vec<PodFailurePolicyRule> = serde_json::from_value(rules).unwrap();
        let pod = json!({"metadata": {"name": "p", "namespace": "x"}, "status": status});
        assert_eq!(consequence(&rules, &serde_json::from_value(pod).unwrap()), expected);
    }

    fn exited(code: i32) -> Value {
        json!({"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}}]})
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let on = |operator: &str, action: &str| json!({"action": action, "onExitCodes": {"operator": operator, "values": [42]}});
        let failed = "Container main for pod x/p failed with exit code 42 matching FailJob rule at index 1".to_owned();
        check(
            json!([on("NotIn", "Ignore"), on("In", "FailJob")]),
            exited(42),
            Consequence::FailJob { message: failed },
        );
        check(json!([on("NotIn", "Ignore"), on("In", "FailJob")]), exited(1), Consequence::Ignore);
        check(json!([on("NotIn", "Ignore")]), exited(0), Consequence::Count);
        check(json!([on("In", "Count"), on("In", "FailJob")]), exited(42), Consequence::Count);
        check(json!([on("In", "FailIndex")]), exited(42), Consequence::FailIndex);
        check(json!([]), exited(42), Consequence::Count);
        let other = json!([{"action": "Ignore", "onExitCodes":
            {"containerName": "side", "operator": "In", "values": [42]}}]);
        check(other, exited(42), Consequence::Count);
    }

    #[test]
    fn conditions_of_the_pod_match_too() {
        let rules = json!([{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
        let condition = |status: &str| json!({"conditions": [{"type": "DisruptionTarget", "status": status}]});
        let message = "Pod x/p has condition DisruptionTarget matching FailJob rule at index 0".to_owned();
        check(rules.clone(), condition("True"), Consequence::FailJob { message });
        check(rules, condition("False"), Consequence::Count);
    }

    #[test]
    fn success_is_declared_by_the_first_fulfilled_rule() {
        let policy: SuccessPolicy = serde_json::from_value(json!({"rules": [
            {"succeededIndexes": "0-1"}, {"succeededIndexes": "2-5", "succeededCount": 2}, {"succeededCount": 4}]}))
        .unwrap();
        for (succeeded, expected) in [
            ("", None),
            ("0,2", None),
            ("0,1", Some("Matched rules at index 0")),
            ("2,5", Some("Matched rules at index 1")),
            ("0,5,7-8", Some("Matched rules at index 2")),
        ] {
            let message = success(&policy, 9, &Indexes::parse(succeeded, 9));
            assert_eq!(message.as_deref(), expected, "{succeeded}");
        }
    }
}
