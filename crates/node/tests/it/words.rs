//! What a pod says of itself where something is not as it should be: reasons, messages and events as any node has them.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use kube::api::{DeleteParams, Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, eventually, web};

pub(crate) fn trials() -> Vec<Trial> {
    crate::async_trials!("words":
        a_grpc_probe_asks_for_its_service,
        exit_codes_decide_who_runs_again,
        images_that_cannot_be_had_say_why,
        root_is_refused,
        what_has_no_effect_is_named,
        last_words_are_told,
        a_part_of_a_volume_is_found,
        a_hook_that_fails_is_told,
        hooks_ask_and_sleep,
        the_environment_is_filled_in_order,
        a_status_says_what_was_given,
        a_pod_that_cannot_start_says_that_it_waits_and_ends_in_time,
    )
}

fn waiting(pod: &Value) -> (&str, &str) {
    let waiting = &web(pod)["state"]["waiting"];
    (waiting["reason"].as_str().unwrap_or_default(), waiting["message"].as_str().unwrap_or_default())
}

async fn log_of(cluster: &Cluster, name: &str, expected: &str) {
    let pod = cluster.until(name, "there", |pod| pod["metadata"]["uid"].is_string()).await;
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let path = cluster.options.data_dir.join(format!("logs/default_{name}_{uid}/web/0.log"));
    let said = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually(&format!("{name} says {expected}"), || {
        said().lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect::<Vec<_>>().join("|") == expected
    })
    .await;
}

async fn a_grpc_probe_asks_for_its_service() {
    let cluster = Cluster::start().await;
    let shop = |service: &str| {
        json!({"containers": [{
            "name": "web", "image": "sluice.dev/demo:v1", "env": [{"name": "GRPC", "value": "yes"}],
            "readinessProbe": {"grpc": {"port": 8080, "service": service}, "periodSeconds": 1, "failureThreshold": 1},
        }]})
    };
    cluster.create("known", shop("shop"), json!({})).await;
    cluster.create("unknown", shop("nobody"), json!({})).await;
    let pod = cluster.until_ready("known").await;
    let pods = cluster.options.data_dir.join("pods");
    let sick = pods.join(pod["metadata"]["uid"].as_str().expect("a uid")).join("containers/web/work/sick");
    std::fs::write(&sick, "").expect("a file");
    cluster.until("known", "unready", |pod| condition(pod, "Ready") == "False").await;
    let event = "Unhealthy: Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    cluster.until_event("known", event).await;
    cluster.until_event("unknown", "rpc error: code = NotFound").await;
    cluster.end().await;
}

async fn exit_codes_decide_who_runs_again() {
    let cluster = Cluster::start().await;
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    let more =
        json!({"restartPolicy": "Never", "containers": [{"restartPolicy": "Never", "restartPolicyRules": [rule]}]});
    cluster.run("again", "test -e was && exit 3; touch was; exit 42", more).await;
    let over = |pod: &Value| pod["status"]["phase"] == "Failed";
    let pod = cluster.until("again", "over", over).await;
    let web = web(&pod);
    assert_eq!((&web["restartCount"], &web["state"]["terminated"]["exitCode"]), (&json!(1), &json!(3)));
    assert_eq!(web["lastState"]["terminated"]["exitCode"], 42);
    cluster.end().await;
}

async fn images_that_cannot_be_had_say_why() {
    let cluster = Cluster::start().await;
    let pod =
        |image: &str, policy: &str| json!({"containers": [{"name": "web", "image": image, "imagePullPolicy": policy}]});
    cluster.create("wrong", pod("UPPER/Web:1", "IfNotPresent"), json!({})).await;
    cluster.create("never", pod("registry.test/web:1", "Never"), json!({})).await;
    cluster.create("gone", pod("registry.test/web:1", "IfNotPresent"), json!({})).await;
    let wrong = cluster.until("wrong", "refused", |pod| waiting(pod).0 == "InvalidImageName").await;
    let text = "Failed to apply default image tag \"UPPER/Web:1\": couldn't parse image name \"UPPER/Web:1\": invalid reference format";
    assert!(waiting(&wrong).1.starts_with(text), "{}", waiting(&wrong).1);
    cluster.until_event("wrong", &format!("InspectFailed: {text}")).await;
    cluster.until_event("wrong", "Failed: Error: InvalidImageName").await;
    let text = "Container image \"registry.test/web:1\" is not present with pull policy of Never";
    cluster.until("never", "refused", |pod| waiting(pod) == ("ErrImageNeverPull", text)).await;
    cluster.until_event("never", &format!("ErrImageNeverPull: {text}")).await;
    cluster.until_event("never", "Failed: Error: ErrImageNeverPull").await;
    cluster.create("idle", pod("host", "IfNotPresent"), json!({})).await;
    cluster.until("idle", "refused", |pod| waiting(pod).0 == "CreateContainerError").await;
    cluster.until_event("idle", "Failed: Error: no command specified").await;
    let prefix = "Back-off pulling image \"registry.test/web:1\": ErrImagePull: no process image";
    let patient = |pod: &Value| waiting(pod).0 == "ImagePullBackOff" && waiting(pod).1.starts_with(prefix);
    cluster.until("gone", "patient", patient).await;
    cluster.until_event("gone", "BackOff: Back-off pulling image \"registry.test/web:1\" (1)").await;
    cluster.until_event("gone", "Failed: Error: ImagePullBackOff").await;
    cluster.end().await;
}

async fn root_is_refused() {
    let cluster = Cluster::start().await;
    let context = json!({"containers": [{"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}]});
    let pod = cluster.run("web", "exit 0", context).await;
    let uid = pod.metadata.uid.expect("a uid");
    let text = format!("container's runAsUser breaks non-root policy (pod: \"web_default({uid})\", container: web)");
    cluster.until("web", "refused", |pod| waiting(pod) == ("CreateContainerConfigError", &text)).await;
    cluster.until_event("web", &format!("Failed: Error: {text}")).await;
    cluster.end().await;
}

async fn what_has_no_effect_is_named() {
    let cluster = Cluster::start().await;
    let more = json!({
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
        "containers": [{"terminationMessagePath": "/words"}],
    });
    cluster.run("web", "exec sleep 1000", more).await;
    let event = cluster.until_event("web", "FieldsIgnored").await;
    let expected = "FieldsIgnored: The pod runs as processes of this machine, where these fields have no effect: \
                    spec.hostAliases, spec.containers{web}.terminationMessagePath (1)";
    assert_eq!(event, expected);
    cluster.end().await;
}

async fn last_words_are_told() {
    let cluster = Cluster::start().await;
    let never = |policy: &str| json!({"restartPolicy": "Never", "containers": [{"terminationMessagePolicy": policy}]});
    cluster.run("file", "echo out of milk > $SLUICE_TERMINATION_LOG; exit 1", never("File")).await;
    cluster.run("logs", "echo first; echo out of milk; exit 1", never("FallbackToLogsOnError")).await;
    cluster.run("well", "echo fine", never("FallbackToLogsOnError")).await;
    let link = "ln -s /etc/passwd $SLUICE_TERMINATION_LOG; exit 1";
    cluster.run("link", link, never("File")).await;
    for (name, expected) in [
        ("file", json!("out of milk\n")),
        ("logs", json!("first\nout of milk")),
        ("well", json!(null)),
        ("link", json!(null)),
    ] {
        let pod = cluster.until(name, "over", |pod| web(pod)["state"]["terminated"].is_object()).await;
        assert_eq!(web(&pod)["state"]["terminated"]["message"], expected, "{name}");
    }
    cluster.end().await;
}

async fn a_part_of_a_volume_is_found() {
    let cluster = Cluster::start().await;
    let mounted = |mount: Value| {
        json!({
            "restartPolicy": "Never", "containers": [{"volumeMounts": [mount]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        })
    };
    let part = mounted(json!({"name": "data", "mountPath": "/data", "subPath": "a/b"}));
    cluster.run("part", "cd $SLUICE_VOLUME_DATA && echo ${PWD##*volumes/}", part).await;
    log_of(&cluster, "part", "data/a/b").await;
    let expression = mounted(json!({"name": "data", "mountPath": "/data", "subPathExpr": "$(POD_NAME)"}));
    cluster.run("expression", "exit 0", expression).await;
    let pod = cluster.until("expression", "refused", |pod| waiting(pod).0 == "CreateContainerConfigError").await;
    assert!(waiting(&pod).1.contains("subPathExpr is for containers"), "{}", waiting(&pod).1);
    cluster.end().await;
}

async fn a_hook_that_fails_is_told() {
    let cluster = Cluster::start().await;
    let failing = json!({"exec": {"command": ["/bin/sh", "-c", "echo no luck; exit 7"]}});
    let more = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"lifecycle": {"postStart": failing, "preStop": failing}}],
    });
    cluster.run("web", "exec sleep 1000", more).await;
    cluster.until_event("web", "FailedPostStartHook: PostStartHook failed: exit code 7: no luck").await;
    cluster.until_event("web", "Killing: FailedPostStartHook").await;
    cluster.until_event("web", "FailedPreStopHook: PreStopHook failed: exit code 7: no luck").await;
    cluster.until("web", "started again", |pod| web(pod)["restartCount"].as_i64() > Some(0)).await;
    cluster.end().await;
}

async fn hooks_ask_and_sleep() {
    let cluster = Cluster::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().expect("a hook");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("a reader");
        String::from_utf8_lossy(&request[..length]).to_lowercase()
    });
    let headers = json!([{"name": "X-Who", "value": "web"}]);
    let get = json!({"httpGet": {"host": "127.0.0.1", "port": port, "path": "up", "httpHeaders": headers}});
    let hooks = json!({"postStart": get, "preStop": {"sleep": {"seconds": 1}}});
    cluster.run("web", "exec sleep 1000", json!({"containers": [{"lifecycle": hooks}]})).await;
    let request = asked.await.expect("a request");
    assert!(request.starts_with("get /up ") && request.contains("x-who: web"), "{request}");
    cluster.until_ready("web").await;
    let told = Instant::now();
    cluster.delete("web", DeleteParams::default()).await;
    cluster.until("web", "gone", Value::is_null).await;
    assert!(told.elapsed() >= Duration::from_secs(1), "it slept before it was stopped");
    cluster.end().await;
}

async fn the_environment_is_filled_in_order() {
    let cluster = Cluster::start().await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 5432}]}});
    cluster.put(("v1", "Service"), service).await;
    let data = json!({"DB_SERVICE_PORT": "1", "a.b": "dotted", "X": "from the map"});
    cluster.put(("v1", "ConfigMap"), json!({"metadata": {"name": "words"}, "data": data})).await;
    let cpu = json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}});
    let env = |links: bool| {
        json!({
            "enableServiceLinks": links, "restartPolicy": "Never",
            "containers": [{"envFrom": [{"configMapRef": {"name": "words"}}], "env": [
                {"name": "X", "value": "$(X), $(a.b) $$(X) $(NOBODY)"}, {"name": "CPU", "valueFrom": cpu},
            ], "args": ["$(DB_SERVICE_HOST)"]}],
        })
    };
    let script = "echo $0 $DB_SERVICE_PORT $X; test $CPU -ge 1000 && echo enough";
    cluster.run("linked", script, env(true)).await;
    log_of(&cluster, "linked", "10.96.0.9 1 from the map, dotted $(X) $(NOBODY)|enough").await;
    cluster.run("alone", script, env(false)).await;
    log_of(&cluster, "alone", "$(DB_SERVICE_HOST) 1 from the map, dotted $(X) $(NOBODY)|enough").await;
    cluster.end().await;
}

async fn a_status_says_what_was_given() {
    let cluster = Cluster::start().await;
    let more = json!({
        "readinessGates": [{"conditionType": "example.com/lb"}],
        "containers": [{"resources": {"requests": {"cpu": "10m"}}}],
    });
    cluster.run("web", "exec sleep 1000", more).await;
    let gated = |pod: &Value| condition(pod, "ContainersReady") == "True" && condition(pod, "Ready") == "False";
    let pod = cluster.until("web", "held by its gate", gated).await;
    let status = &pod["status"];
    assert_eq!((&status["qosClass"], &status["observedGeneration"]), (&json!("Burstable"), &json!(1)));
    assert_eq!((&status["podIPs"][0]["ip"], &status["hostIPs"][0]["ip"]), (&status["podIP"], &status["hostIP"]));
    let given = json!({"cpu": "10m"});
    assert_eq!(web(&pod)["allocatedResources"], given);
    assert_eq!(web(&pod)["resources"], json!({"requests": given}));
    assert_eq!(web(&pod)["user"]["linux"]["uid"], rustix::process::geteuid().as_raw());
    let mounts = web(&pod)["volumeMounts"].as_array().cloned().unwrap_or_default();
    assert!(mounts.iter().all(|mount| mount["recursiveReadOnly"] == "Disabled"), "{mounts:?}");
    let open = json!({"status": {"conditions": [{"type": "example.com/lb", "status": "True"}]}});
    cluster.pods().patch_status("web", &PatchParams::default(), &Patch::Strategic(open)).await.expect("a patch");
    let pod = cluster.until_ready("web").await;
    assert_eq!(condition(&pod, "example.com/lb"), "True");
    cluster.end().await;
}

async fn a_pod_that_cannot_start_says_that_it_waits_and_ends_in_time() {
    let cluster = Cluster::start().await;
    let more = json!({
        "activeDeadlineSeconds": 2, "volumes": [{"name": "conf", "configMap": {"name": "none"}}],
        "containers": [{"volumeMounts": [{"name": "conf", "mountPath": "/conf"}]}],
    });
    cluster.run("web", "exit 0", more).await;
    let pod = cluster.until("web", "waiting", |pod| waiting(pod).0 == "ContainerCreating").await;
    assert_eq!((&pod["status"]["phase"], condition(&pod, "PodReadyToStartContainers")), (&json!("Pending"), "False"));
    assert!(pod["status"]["startTime"].is_string());
    let pod = cluster.until("web", "over", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    cluster.until_event("web", "FailedMount").await;
    cluster.end().await;
}
