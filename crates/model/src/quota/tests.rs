use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn quota(hard: &Value, used: &Value, scopes: &Value) -> Quota {
    Quota::of(&json!({"metadata": {"name": "q"}, "spec": {"scopes": scopes}, "status": {"hard": hard, "used": used}}))
}

/// What the quota counts afterwards, or why it refuses.
fn check(resource: (&str, &str), object: &Value, before: Option<&Value>, quota: Quota, expected: &str) {
    let resource = Resource::new(resource.0, resource.1);
    let request = Request { resource: &resource, object, before, now: NOW.parse().unwrap() };
    let said = match charge(request, &[quota]) {
        Ok(charges) => charges.iter().map(|it| format!("{:?}", shown(&it.used))).collect::<Vec<_>>().join(" "),
        Err(why) => why,
    };
    assert_eq!(said, expected, "{object}");
}

fn shown(amounts: &Amounts) -> String {
    let parts: Vec<_> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}

fn pod(resources: &Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
}

const PODS: (&str, &str) = ("", "pods");

#[test]
fn pods_are_counted_by_what_their_containers_say() {
    let some = || pod(&json!({"requests": {"cpu": "300m", "x.io/gpu": "2"}, "limits": {"memory": "64Mi"}}));
    let cpu = |hard: &str| quota(&json!({"requests.cpu": hard}), &json!({"requests.cpu": "1750m"}), &json!([]));
    check(PODS, &some(), None, cpu("3"), r#""requests.cpu=2050m""#);
    check(
        PODS,
        &some(),
        None,
        cpu("2"),
        "exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=1750m, limited: requests.cpu=2",
    );
    let both = quota(
        &json!({"pods": "1", "requests.x.io/gpu": "4", "limits.memory": "32Mi"}),
        &json!({"pods": "1", "requests.x.io/gpu": "0", "limits.memory": "0"}),
        &json!([]),
    );
    check(
        PODS,
        &some(),
        None,
        both,
        "exceeded quota: q, requested: limits.memory=64Mi,pods=1, used: limits.memory=0,pods=1, limited: \
         limits.memory=32Mi,pods=1",
    );
}

#[test]
fn containers_must_say_what_is_counted() {
    let hard = json!({"requests.cpu": "1", "limits.memory": "1Gi", "requests.ephemeral-storage": "1Gi", "pods": "2"});
    let used = json!({"requests.cpu": "0", "limits.memory": "0", "requests.ephemeral-storage": "0", "pods": "0"});
    let two = json!({"spec": {
        "containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1m"}}}],
        "initContainers": [{"name": "z", "resources": {"limits": {"memory": "1"}}}],
    }});
    let why = "failed quota: q: must specify limits.memory for: a,b; requests.cpu for: b,z";
    check(PODS, &two, None, quota(&hard, &used, &json!([])), why);
    let whole = json!({"spec": {"resources": {"limits": {"cpu": "1"}}, "containers": [{"name": "b"}]}});
    let sums = r#""limits.memory=0,pods=1,requests.cpu=0,requests.ephemeral-storage=0""#;
    check(PODS, &whole, None, quota(&hard, &used, &json!([])), sums);
}

#[test]
fn a_quota_that_was_not_counted_yet_refuses_nothing_or_everything() {
    let fresh = Quota::of(&json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}));
    check(PODS, &pod(&json!({})), None, fresh, "");
    let half = quota(&json!({"pods": "1", "count/pods": "1"}), &json!({"pods": "0"}), &json!([]));
    check(PODS, &pod(&json!({})), None, half, "status unknown for quota: q, resources: count/pods,pods");
}

#[test]
fn scopes_choose_pods() {
    let plain = || pod(&json!({}));
    let with = |field: &str, value: Value| {
        let mut pod = pod(&json!({"limits": {"cpu": "1"}}));
        pod["spec"][field] = value;
        pod
    };
    let other = json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"namespaces": ["x"]}}]}});
    let same = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}});
    let cases = [
        ("BestEffort", plain(), true),
        ("BestEffort", with("hostname", json!("x")), false),
        ("NotBestEffort", plain(), false),
        ("Terminating", with("activeDeadlineSeconds", json!(5)), true),
        ("Terminating", plain(), false),
        ("NotTerminating", plain(), true),
        ("PriorityClass", with("priorityClassName", json!("high")), true),
        ("PriorityClass", plain(), false),
        ("CrossNamespacePodAffinity", with("affinity", other), true),
        ("CrossNamespacePodAffinity", with("affinity", same), false),
    ];
    for (scope, pod, counted) in cases {
        let quota = quota(&json!({"pods": "9"}), &json!({"pods": "0"}), &json!([scope]));
        check(PODS, &pod, None, quota, if counted { r#""pods=1""# } else { "" });
    }
}

#[test]
fn a_scope_selector_chooses_by_the_class_of_priority() {
    let quota = |operator: &str, values: Value| {
        let selector = json!({"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]});
        Quota::of(&json!({"metadata": {"name": "q"}, "spec": {"scopeSelector": selector},
                          "status": {"hard": {"pods": "9"}, "used": {"pods": "0"}}}))
    };
    let of = |class: &str| json!({"spec": {"containers": [], "priorityClassName": class}});
    let cases = [
        ("In", json!(["high"]), "high", true),
        ("In", json!(["high"]), "low", false),
        ("NotIn", json!(["high"]), "low", true),
        ("NotIn", json!(["high"]), "", true),
        ("Exists", json!([]), "", false),
        ("DoesNotExist", json!([]), "", true),
    ];
    for (operator, values, class, counted) in cases {
        check(PODS, &of(class), None, quota(operator, values), if counted { r#""pods=1""# } else { "" });
    }
}

#[test]
fn services_are_counted_by_type_and_only_what_a_change_adds() {
    let services = ("", "services");
    let of = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 80}, {"port": 81}]}});
    let hard = json!({"services": "1", "services.nodeports": "2", "services.loadbalancers": "0"});
    let used = json!({"services": "1", "services.nodeports": "0", "services.loadbalancers": "0"});
    let full = || quota(&hard, &used, &json!([]));
    check(
        services,
        &of("NodePort"),
        Some(&of("ClusterIP")),
        full(),
        r#""services=1,services.loadbalancers=0,services.nodeports=2""#,
    );
    let why = "exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, limited: \
               services.loadbalancers=0";
    check(services, &of("LoadBalancer"), Some(&of("NodePort")), full(), why);
    check(services, &of("ClusterIP"), Some(&of("NodePort")), full(), "");
    let why = "exceeded quota: q, requested: services=1, used: services=1, limited: services=1";
    check(services, &of("ClusterIP"), None, full(), why);
}

#[test]
fn claims_are_counted_by_size_and_class() {
    let claims = ("", "persistentvolumeclaims");
    let of = |size: &str| json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": size}}}});
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let quota = || {
        quota(
            &json!({"requests.storage": "5Gi", gold: "4Gi"}),
            &json!({"requests.storage": "1Gi", gold: "1Gi"}),
            &json!([]),
        )
    };
    let after = format!("\"{gold}=3Gi,requests.storage=3Gi\"");
    check(claims, &of("2Gi"), None, quota(), &after);
    check(claims, &of("3Gi"), Some(&of("1Gi")), quota(), &after);
    let why = format!("exceeded quota: q, requested: {gold}=4Gi, used: {gold}=1Gi, limited: {gold}=4Gi");
    check(claims, &of("4Gi"), None, quota(), &why);
}

#[test]
fn anything_is_counted_by_its_number() {
    let hard = json!({"count/deployments.apps": "1", "secrets": "1", "count/secrets": "2"});
    let quota =
        || quota(&hard, &json!({"count/deployments.apps": "1", "secrets": "0", "count/secrets": "1"}), &json!([]));
    let why = "exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: \
               count/deployments.apps=1";
    check(("apps", "deployments"), &json!({}), None, quota(), why);
    check(("apps", "deployments"), &json!({}), Some(&json!({})), quota(), "");
    check(("", "secrets"), &json!({}), None, quota(), r#""count/deployments.apps=1,count/secrets=2,secrets=1""#);
    check(("apps", "replicasets"), &json!({}), None, quota(), "");
}

#[test]
fn a_tally_counts_from_zero_in_the_notation_of_what_it_meets_first() {
    let spec =
        json!({"hard": {"pods": "3", "limits.memory": "1Gi", "count/pods": "9", "configmaps": "5", "nonsense": "1"}});
    let mut tally = Tally::new(&spec);
    let pods = Resource::new("", "pods");
    assert_eq!(tally.resources(), [Resource::new("", "configmaps"), pods.clone()]);
    assert_eq!(shown(&tally.clone().used()), "configmaps=0,count/pods=0,limits.memory=0,pods=0");
    let now = NOW.parse().unwrap();
    for memory in ["64Mi", "100M"] {
        tally.count(&pods, &pod(&json!({"limits": {"memory": memory}})), now);
    }
    let mut ended = pod(&json!({"limits": {"memory": "1Gi"}}));
    ended["status"]["phase"] = json!("Succeeded");
    tally.count(&pods, &ended, now);
    let mut forgotten = pod(&json!({}));
    forgotten["metadata"] = json!({"deletionTimestamp": "2025-12-31T23:00:00Z", "deletionGracePeriodSeconds": 30});
    tally.count(&pods, &forgotten, now);
    tally.count_plain(&Resource::new("", "configmaps"), 4);
    assert_eq!(shown(&tally.used()), "configmaps=4,count/pods=4,limits.memory=167108864,pods=2");
}

#[test]
fn a_quota_with_scopes_counts_nothing_but_pods() {
    let mut tally = Tally::new(&json!({"hard": {"pods": "3", "configmaps": "5"}, "scopes": ["NotTerminating"]}));
    tally.count_plain(&Resource::new("", "configmaps"), 4);
    tally.count(&Resource::new("", "pods"), &pod(&json!({})), NOW.parse().unwrap());
    assert_eq!(shown(&tally.used()), "configmaps=0,pods=1");
}
