//! The agent over a real API: what becomes of pods.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sluice_node::{LogOptions, LogTarget};

use crate::cluster::{Cluster, PATIENCE, alive, condition, eventually, pod_ip, web};

pub(crate) fn trials() -> Vec<Trial> {
    crate::async_trials!("agent":
        the_node_is_there,
        a_pod_gets_ready_and_answers,
        a_job_succeeds_or_fails,
        a_deadline_ends_the_pod,
        an_https_probe_takes_any_certificate,
        an_unknown_image_says_what_to_do,
        a_missing_config_map_holds_the_container_back,
        volumes_follow_their_sources,
        what_is_a_pods_own_is_closed_to_others,
        a_pod_runs_as_the_user_it_names,
        a_crash_is_shown_and_its_log_kept,
        another_image_restarts_the_container,
        a_failed_liveness_probe_restarts_the_container,
        a_startup_probe_holds_the_others_back,
        readiness_comes_and_goes,
        exec_probes_run_in_the_container,
        logs_can_be_followed,
        a_delete_is_graceful_and_leaves_nothing,
        a_forced_delete_ends_the_process,
        a_stop_waits_for_the_gateways,
        a_restarted_agent_changes_nothing,
        a_killed_engine_leaves_its_pods_and_finds_them_again,
        a_pod_deleted_behind_the_agents_back_is_ended,
        a_lost_supervisor_is_replaced,
        all_pods_can_be_stopped,
        many_pods_come_and_go,
    )
}

/// What takes tens of milliseconds may take this long on a busy machine.
const PROMPT: Duration = Duration::from_secs(2);

fn demo() -> Value {
    json!({"containers": [{"name": "web", "image": "sluice.dev/demo:v1", "ports": [{"containerPort": 8080}]}]})
}

fn http_probe(path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1})
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

fn container_id(pod: &Value) -> String {
    web(pod)["containerID"].as_str().unwrap_or_default().to_owned()
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

/// What the supervisor of a pod has on disk.
fn saved(cluster: &Cluster, pod: &Value) -> Value {
    let path = cluster.options.data_dir.join("pods").join(uid(pod)).join("state.json");
    serde_json::from_slice(&std::fs::read(path).expect("a state")).expect("JSON")
}

fn pid(cluster: &Cluster, pod: &Value) -> i32 {
    let pid = saved(cluster, pod)["containers"][0]["condition"]["running"]["pid"].as_i64();
    pid.and_then(|pid| i32::try_from(pid).ok()).expect("it runs")
}

async fn log(cluster: &Cluster, pod: &Value, options: LogOptions) -> String {
    let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
    let target =
        LogTarget { namespace: text("namespace"), pod: text("name"), uid: text("uid"), container: "web".to_owned() };
    let reader = sluice_node::LogReader::new(&cluster.options.data_dir);
    match reader.open(&target, options).await {
        Ok(chunks) => {
            chunks.map(|chunk| String::from_utf8_lossy(&chunk.expect("a chunk")).into_owned()).collect().await
        }
        Err(error) => format!("error: {error}"),
    }
}

/// A process that runs need not have spoken yet.
async fn until_log(cluster: &Cluster, pod: &Value, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = log(cluster, pod, LogOptions::default()).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "not `{expected}` but `{found}`");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn the_node_is_there() {
    let cluster = Cluster::start().await;
    let node = serde_json::to_value(cluster.nodes().get("here").await.expect("a node")).expect("JSON");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "here");
    assert_eq!(condition(&node, "Ready"), "True");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    assert!(node["status"]["addresses"].as_array().is_some_and(|addresses| addresses.len() == 2));
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> =
        kube::Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let deadline = Instant::now() + Duration::from_secs(10);
    while leases.get_opt("here").await.expect("an answer").is_none() {
        assert!(Instant::now() < deadline, "no lease");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.end().await;
}

async fn a_pod_gets_ready_and_answers() {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    cluster.create("shop", demo(), json!({"containers": [{"readinessProbe": http_probe("/healthz")}]})).await;
    let pod = cluster.until_ready("shop").await;
    let took = began.elapsed();
    assert_eq!(get(SocketAddr::from((pod_ip(&pod), 8080))), "v1");
    assert!(pod_ip(&pod).octets()[0] == 127 && pod_ip(&pod).octets()[1] >= 64);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert!(pod["status"]["startTime"].is_string() && pod["status"]["hostIP"].is_string());
    for kind in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    let web = web(&pod);
    assert_eq!((&web["ready"], &web["started"], &web["restartCount"]), (&json!(true), &json!(true), &json!(0)));
    assert!(container_id(&pod).starts_with("process://"));
    cluster.until_event("shop", "Started: ").await;
    let reasons: Vec<String> =
        cluster.events("shop").await.iter().filter_map(|event| Some(event.split_once(':')?.0.to_owned())).collect();
    assert_eq!(reasons, ["Pulled", "Created", "Started"]);
    assert!(took < PROMPT, "ready after {took:?} only");
    cluster.end().await;
}

async fn a_job_succeeds_or_fails() {
    let cluster = Cluster::start().await;
    cluster.run("good", "exit 0", json!({"restartPolicy": "Never"})).await;
    cluster.run("bad", "exit 3", json!({"restartPolicy": "Never"})).await;
    let good = cluster.until("good", "over", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(web(&good)["state"]["terminated"]["reason"], "Completed");
    let bad = cluster.until("bad", "over", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(web(&bad)["state"]["terminated"]["exitCode"], 3);
    cluster.end().await;
}

async fn a_deadline_ends_the_pod() {
    let cluster = Cluster::start().await;
    cluster.run("web", "exec sleep 1000", json!({"activeDeadlineSeconds": 1})).await;
    let pod = cluster.until("web", "over", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    cluster.until_event("web", "DeadlineExceeded: Pod was active on the node longer than the specified deadline").await;
    cluster.end().await;
}

async fn an_https_probe_takes_any_certificate() {
    let cluster = Cluster::start().await;
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTPS"}, "periodSeconds": 1});
    let more = json!({"containers": [{"readinessProbe": probe, "env": [{"name": "TLS", "value": "yes"}]}]});
    cluster.create("web", demo(), more).await;
    cluster.until_ready("web").await;
    cluster.end().await;
}

async fn an_unknown_image_says_what_to_do() {
    let cluster = Cluster::start().await;
    install_process_images(&cluster).await;
    let mut spec = demo();
    spec["containers"][0]["image"] = json!("registry.test/web:1");
    cluster.create("web", spec, json!({})).await;
    let reason = |wanted: &'static str| move |pod: &Value| web(pod)["state"]["waiting"]["reason"] == wanted;
    cluster.until("web", "without its image", reason("ErrImagePull")).await;
    let event = cluster.until_event("web", "Failed to pull image").await;
    assert!(event.contains("`sluice image add registry.test/web:1 --exec PATH`"), "{event}");
    cluster.until("web", "patient", reason("ImagePullBackOff")).await;
    let image = json!({"metadata": {"name": "web"}, "spec": {
        "image": "registry.test/web:1", "exec": "/bin/sh", "args": ["-c", "echo from the image; exec sleep 1000"]}});
    cluster.put(("sluice.dev/v1alpha1", "ProcessImage"), image).await;
    let pod = cluster.until_ready("web").await;
    until_log(&cluster, &pod, "from the image\n").await;
    cluster.end().await;
}

async fn a_missing_config_map_holds_the_container_back() {
    let cluster = Cluster::start().await;
    let env = json!([{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "hello"}}}]);
    cluster.run("web", "echo $GREETING; exec sleep 1000", json!({"containers": [{"env": env}]})).await;
    let held = |pod: &Value| web(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    let pod = cluster.until("web", "held back", held).await;
    assert_eq!(web(&pod)["state"]["waiting"]["message"], "configmap \"words\" not found");
    cluster.until_event("web", "Failed: Error: configmap \"words\" not found").await;
    cluster.put(("v1", "ConfigMap"), json!({"metadata": {"name": "words"}, "data": {"hello": "good morning"}})).await;
    let pod = cluster.until_ready("web").await;
    until_log(&cluster, &pod, "good morning\n").await;
    cluster.end().await;
}

async fn volumes_follow_their_sources() {
    let cluster = Cluster::start().await;
    let volumes = json!({
        "containers": [{"volumeMounts": [{"name": "conf", "mountPath": "/etc/web"}]}],
        "volumes": [{"name": "conf", "configMap": {"name": "words"}}],
    });
    cluster.run("web", "cat $SLUICE_VOLUME_CONF/hello; echo; exec sleep 1000", volumes).await;
    let event = cluster.until_event("web", "FailedMount").await;
    assert!(event.contains("MountVolume.SetUp failed for volume \"conf\" : configmap \"words\" not found"), "{event}");
    cluster.put(("v1", "ConfigMap"), json!({"metadata": {"name": "words"}, "data": {"hello": "one"}})).await;
    let pod = cluster.until_ready("web").await;
    eventually("the process has read it", || {
        let logs = cluster.options.data_dir.join("logs").join(format!("default_web_{}", uid(&pod)));
        std::fs::read_to_string(logs.join("web/0.log")).is_ok_and(|log| log.contains("stdout F one"))
    })
    .await;
    let volumes = cluster.options.data_dir.join("pods").join(uid(&pod)).join("volumes");
    let file = volumes.join("conf/hello");
    let own = std::fs::read_dir(&volumes)
        .expect("volumes")
        .flatten()
        .find(|it| it.file_name() != "conf")
        .expect("the API's own");
    let token = std::fs::read_to_string(own.path().join("token")).expect("a token");
    assert_eq!(token.split('.').count(), 3, "a JSON web token: {token}");
    assert_eq!(std::fs::read_to_string(own.path().join("namespace")).expect("a file"), "default");
    let event = cluster.until_event("web", "MountPathUnavailable").await;
    assert!(event.contains("/etc/web lies at") && event.contains("$SLUICE_VOLUME_CONF"), "{event}");
    assert!(!event.contains("serviceaccount"), "{event}");
    let began = Instant::now();
    cluster.put(("v1", "ConfigMap"), json!({"metadata": {"name": "words"}, "data": {"hello": "two"}})).await;
    eventually("the new text is there", || std::fs::read_to_string(&file).is_ok_and(|text| text == "two")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    cluster.end().await;
}

/// A pod with a secret in its volumes.
async fn with_secret(cluster: &Cluster, name: &str, script: &str, security: Value) -> Value {
    cluster.put(("v1", "Secret"), json!({"metadata": {"name": "s"}, "stringData": {"word": "swordfish"}})).await;
    let more = json!({
        "securityContext": security,
        "containers": [{"volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "scratch", "mountPath": "/scratch"}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "s"}}, {"name": "scratch", "emptyDir": {}}],
    });
    cluster.run(name, script, more).await;
    cluster.until_ready(name).await
}

/// Modes of everything below a directory that group or others may open, as `path mode`. Nothing is looked for below what is
/// closed to them.
fn open_to_others(directory: &Path, below: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let metadata = entry.metadata().expect("an entry");
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 == 0 {
            continue;
        }
        found.push(format!("{path} {mode:o}"));
        if metadata.is_dir() {
            open_to_others(&entry.path(), &format!("{path}/"), found);
        }
    }
}

async fn what_is_a_pods_own_is_closed_to_others() {
    let cluster = Cluster::start().await;
    let pod = with_secret(&cluster, "web", "echo up; exec sleep 1000", json!({})).await;
    let data = &cluster.options.data_dir;
    let log = data.join("logs").join(format!("default_web_{}", uid(&pod))).join("web/0.log");
    eventually("its log is there", || log.exists()).await;
    assert_eq!(log.metadata().expect("a log").permissions().mode() & 0o777, 0o600);
    let uid = uid(&pod);
    let (mut found, store) = (Vec::new(), data.join("store"));
    open_to_others(data, "", &mut found);
    found.retain(|entry| !entry.starts_with("store ") || !store.is_dir());
    found.sort();
    // Ways to pass through, and nothing to look at. (The test made `store` itself.)
    let ways = ["pods".to_owned(), format!("pods/{uid}"), format!("pods/{uid}/containers"), "volumes".to_owned()];
    assert_eq!(found, ways.map(|way| format!("{way} 711")));
    let secret = data.join("pods").join(&uid).join("volumes/s/word");
    assert_eq!(std::fs::read_to_string(secret).expect("a file"), "swordfish");
    cluster.end().await;
}

async fn a_pod_runs_as_the_user_it_names() {
    const SCRIPT: &str =
        "cat $SLUICE_VOLUME_S/word; touch own $SLUICE_VOLUME_SCRATCH/x && echo , user $(id -u); exec sleep 1000";
    // Passed through on the way to the pod's own directory, as that of an engine is.
    let directory = tempfile::tempdir().expect("a directory");
    let passage = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory.path(), passage).expect("our own directory");
    let cluster = Cluster::open(directory.path(), |_| {}).await;
    let (we, wanted) = (rustix::process::geteuid().as_raw(), 12_345);
    let pod = with_secret(&cluster, "web", SCRIPT, json!({"runAsUser": wanted})).await;
    // Who is not root can give a process no other user than his own, and says so.
    let expected = if we == 0 { wanted } else { we };
    until_log(&cluster, &pod, &format!("swordfish, user {expected}\n")).await;
    let pods = directory.path().join("pods");
    let volumes = pods.join(uid(&pod)).join("volumes");
    let metadata = volumes.metadata().expect("a directory");
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (expected, 0o700));
    // A pod of another user does not get at it, unless both are the same as ourselves.
    let peek = format!("cat {}/s/word 2>/dev/null || echo closed; echo; exec sleep 1000", volumes.display());
    let other = with_secret(&cluster, "other", &peek, json!({"runAsUser": wanted + 1})).await;
    until_log(&cluster, &other, if we == 0 { "closed\n\n" } else { "swordfish\n" }).await;
    cluster.end().await;
}

async fn a_crash_is_shown_and_its_log_kept() {
    let cluster = Cluster::start().await;
    cluster.run("web", "echo start; exit 5", json!({})).await;
    let crashing = |pod: &Value| web(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = cluster.until("web", "in back-off", crashing).await;
    assert_eq!(web(&pod)["lastState"]["terminated"]["exitCode"], 5);
    assert_eq!((&pod["status"]["phase"], condition(&pod, "Ready")), (&json!("Running"), "False"));
    let event = cluster.until_event("web", "BackOff").await;
    assert!(event.contains("Back-off restarting failed container web in pod web_default("), "{event}");
    assert_eq!(log(&cluster, &pod, LogOptions { previous: true, ..LogOptions::default() }).await, "start\n");
    cluster.end().await;
}

async fn another_image_restarts_the_container() {
    let cluster = Cluster::start().await;
    cluster.create("web", demo(), json!({"containers": [{"readinessProbe": http_probe("/healthz")}]})).await;
    let pod = cluster.until_ready("web").await;
    let patch = json!({"spec": {"containers": [{"name": "web", "image": "sluice.dev/demo:v2"}]}});
    cluster.pods().patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("a patch");
    let restarted = |pod: &Value| web(pod)["restartCount"] == 1 && condition(pod, "Ready") == "True";
    cluster.until("web", "restarted", restarted).await;
    assert_eq!(get(SocketAddr::from((pod_ip(&pod), 8080))), "v2");
    cluster.until_event("web", "Container web definition changed, will be restarted").await;
    cluster
        .until_event(
            "web",
            "Container image \"sluice.dev/demo:v2\" already present on machine and can be accessed by the pod",
        )
        .await;
    cluster.end().await;
}

async fn a_failed_liveness_probe_restarts_the_container() {
    let cluster = Cluster::start().await;
    let mut probe = http_probe("/healthz");
    probe["failureThreshold"] = json!(1);
    cluster
        .create("web", demo(), json!({"containers": [{"livenessProbe": probe}], "terminationGracePeriodSeconds": 1}))
        .await;
    let pod = cluster.until_ready("web").await;
    let work = cluster.options.data_dir.join("pods").join(uid(&pod)).join("containers/web/work");
    std::fs::write(work.join("sick"), "").expect("a file");
    let event = cluster.until_event("web", "Killing").await;
    assert!(event.contains("Container web failed liveness probe, will be restarted"), "{event}");
    cluster.until_event("web", "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 503").await;
    std::fs::remove_file(work.join("sick")).expect("a file");
    let restarted = |pod: &Value| web(pod)["restartCount"].as_i64() >= Some(1) && condition(pod, "Ready") == "True";
    cluster.until("web", "well again", restarted).await;
    cluster.end().await;
}

async fn a_startup_probe_holds_the_others_back() {
    let cluster = Cluster::start().await;
    let more = json!({"containers": [{
        "env": [{"name": "DELAY_MS", "value": "300"}], "startupProbe": http_probe("/"),
        "livenessProbe": {"tcpSocket": {"port": 8080}, "failureThreshold": 1, "periodSeconds": 1},
    }]});
    cluster.create("web", demo(), more).await;
    let pod = cluster.until("web", "running", |pod| web(pod)["state"]["running"].is_object()).await;
    assert_eq!((&web(&pod)["started"], condition(&pod, "Ready")), (&json!(false), "False"));
    let pod = cluster.until_ready("web").await;
    assert_eq!((&web(&pod)["started"], &web(&pod)["restartCount"]), (&json!(true), &json!(0)));
    cluster.end().await;
}

async fn readiness_comes_and_goes() {
    let cluster = Cluster::start().await;
    let mut probe = http_probe("/healthz");
    probe["failureThreshold"] = json!(1);
    cluster.create("web", demo(), json!({"containers": [{"readinessProbe": probe}]})).await;
    let pod = cluster.until_ready("web").await;
    let sick = cluster.options.data_dir.join("pods").join(uid(&pod)).join("containers/web/work/sick");
    std::fs::write(&sick, "").expect("a file");
    let pod = cluster.until("web", "unready", |pod| condition(pod, "Ready") == "False").await;
    assert_eq!((&web(&pod)["ready"], &web(&pod)["restartCount"]), (&json!(false), &json!(0)));
    std::fs::remove_file(&sick).expect("a file");
    cluster.until_ready("web").await;
    cluster.end().await;
}

async fn exec_probes_run_in_the_container() {
    let cluster = Cluster::start().await;
    let probe = json!({"exec": {"command": ["/bin/sh", "-c", "test -e ready && test $WHO = me"]}, "periodSeconds": 1});
    let more = json!({"containers": [{"readinessProbe": probe, "env": [{"name": "WHO", "value": "me"}]}]});
    cluster.run("web", "sleep 0.2; touch ready; exec sleep 1000", more).await;
    cluster.until_ready("web").await;
    cluster.end().await;
}

async fn logs_can_be_followed() {
    let cluster = Cluster::start().await;
    let created = cluster
        .run(
            "web",
            "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.01; done",
            json!({"restartPolicy": "Never"}),
        )
        .await;
    let created = serde_json::to_value(created).expect("JSON");
    assert!(
        log(&cluster, &json!({"metadata": {"uid": "none", "name": "web"}}), LogOptions::default())
            .await
            .contains("is waiting to start")
    );
    cluster.until("web", "started", |pod| pod["status"]["phase"] != "Pending").await;
    let all = log(&cluster, &created, LogOptions { follow: true, ..LogOptions::default() }).await;
    let expected: String = (0..20).map(|number| format!("line {number}\n")).collect();
    assert_eq!(all, expected);
    let tail = log(&cluster, &created, LogOptions { tail_lines: Some(2), ..LogOptions::default() }).await;
    assert_eq!(tail, "line 18\nline 19\n");
    cluster.end().await;
}

async fn a_delete_is_graceful_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let farewell = cluster.options.data_dir.join("farewell");
    let script =
        format!("trap 'echo bye > {}; exit 0' TERM; echo up; while :; do sleep 0.01; done", farewell.display());
    let hook = json!({"preStop": {"exec": {"command": ["/bin/sh", "-c", format!("echo hook > {}.hook", farewell.display())]}}});
    cluster.run("web", &script, json!({"containers": [{"lifecycle": hook}]})).await;
    let pod = cluster.until_ready("web").await;
    let up = || {
        let logs = cluster.options.data_dir.join("logs").join(format!("default_web_{}", uid(&pod))).join("web/0.log");
        std::fs::read_to_string(logs).is_ok_and(|log| log.contains("up"))
    };
    eventually("the trap is set", up).await;
    cluster.delete("web", DeleteParams::default()).await;
    cluster.until("web", "gone", Value::is_null).await;
    assert_eq!(std::fs::read_to_string(&farewell).expect("it said goodbye"), "bye\n");
    assert!(farewell.with_extension("hook").exists());
    let left = |name: &str| std::fs::read_dir(cluster.options.data_dir.join(name)).expect("a directory").count();
    eventually("nothing is left", || left("pods") == 0 && left("logs") == 0).await;
    cluster.until_event("web", "Killing: Stopping container web").await;
    cluster.end().await;
}

async fn a_forced_delete_ends_the_process() {
    let cluster = Cluster::start().await;
    cluster.run("web", "trap '' TERM; while :; do sleep 0.01; done", json!({})).await;
    let pod = cluster.until_ready("web").await;
    let pid = pid(&cluster, &pod);
    cluster.delete("web", DeleteParams::default().grace_period(0)).await;
    cluster.until("web", "gone", Value::is_null).await;
    eventually("its process is gone", || !alive(pid)).await;
    cluster.end().await;
}

async fn a_stop_waits_for_the_gateways() {
    let cluster = Cluster::start().await;
    cluster.put(("v1", "Namespace"), json!({"metadata": {"name": "sluice-system"}})).await;
    cluster.run("web", "exec sleep 1000", json!({})).await;
    let pod = cluster.until_ready("web").await;
    let (process, uid) = (pid(&cluster, &pod), uid(&pod));
    let lease = async |pods: &str, draining: &[&str]| {
        let lease = json!({
            "metadata": {"name": "gateway-1", "namespace": "sluice-system", "labels": {"sluice.dev/component": "gateway"},
                "annotations": {"sluice.dev/acknowledged": json!({"pods": pods}).to_string(), "sluice.dev/draining": json!(draining).to_string()}},
            "spec": {"holderIdentity": "gateway-1", "leaseDurationSeconds": 40, "renewTime": format!("{:.6}", Timestamp::now())},
        });
        cluster.put(("coordination.k8s.io/v1", "Lease"), lease).await;
    };
    let stop_sent = || saved(&cluster, &pod)["stop"].is_object();
    lease("1", &[]).await;
    cluster.delete("web", DeleteParams::default()).await;
    let deleted = cluster.until("web", "deleted", |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    let revision = deleted["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    // The agent has seen the deletion once it has written down that it waits.
    let memory = cluster.options.data_dir.join("pods").join(&uid).join("agent.json");
    eventually("it waits", || std::fs::read_to_string(&memory).is_ok_and(|text| text.contains("\"revision\""))).await;
    assert!(!stop_sent() && alive(process), "nobody has let go yet");
    lease(&revision, &[&uid]).await;
    let later = cluster.pods().get("web").await.expect("still there");
    assert!(later.metadata.deletion_timestamp.is_some() && !stop_sent() && alive(process), "requests are in flight");
    lease(&revision, &[]).await;
    cluster.until("web", "gone", Value::is_null).await;
    eventually("its process is gone", || !alive(process)).await;
    cluster.end().await;
}

async fn a_restarted_agent_changes_nothing() {
    let mut cluster = Cluster::start().await;
    cluster.create("web", demo(), json!({"containers": [{"readinessProbe": http_probe("/healthz")}]})).await;
    let before = cluster.until_ready("web").await;
    let process = pid(&cluster, &before);
    cluster.stop_agent().await;
    assert!(alive(process), "the pod runs on");
    let stopped = cluster.pods().get("web").await.expect("a pod");
    cluster.start_agent().await;
    // A change that only an agent can make shows that it is there again.
    let began = Instant::now();
    cluster.run("other", "exec sleep 1000", json!({})).await;
    cluster.until_ready("other").await;
    let after = cluster.pods().get("web").await.expect("a pod");
    assert_eq!(after.metadata.resource_version, stopped.metadata.resource_version, "not even a status was written");
    let after = serde_json::to_value(after).expect("JSON");
    assert_eq!(after["status"], before["status"]);
    assert_eq!(pid(&cluster, &after), process);
    assert!(began.elapsed() < PROMPT, "at work {:?} after the restart only", began.elapsed());
    // And it is held again: a crash is seen and reported.
    kill_process(Pid::from_raw(process).expect("a pid"), Signal::KILL).expect("it was there");
    cluster.until("web", "restarted", |pod| web(pod)["restartCount"] == 1 && condition(pod, "Ready") == "True").await;
    cluster.end().await;
}

/// What the test below kills: an API with an agent and a pod, which says when the pod is ready.
#[expect(clippy::print_stdout, reason = "how it speaks to the test")]
pub(crate) fn engine(directory: &Path) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cluster = Cluster::open(directory, |_| {}).await;
        cluster.create("web", demo(), json!({"containers": [{"readinessProbe": http_probe("/healthz")}]})).await;
        cluster.until_ready("web").await;
        println!("ready");
        std::future::pending::<()>().await;
    });
    ExitCode::FAILURE
}

async fn a_killed_engine_leaves_its_pods_and_finds_them_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut engine = std::process::Command::new(std::env::current_exe().expect("our own path"))
        .arg("engine")
        .arg(directory.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = String::new();
    BufReader::new(engine.stdout.take().expect("a pipe")).read_line(&mut said).expect("it speaks");
    assert_eq!(said, "ready\n");
    engine.kill().and_then(|()| engine.wait()).expect("it was there");

    let cluster = Cluster::open(directory.path(), |_| {}).await;
    let pod = serde_json::to_value(cluster.pods().get("web").await.expect("the pod was acknowledged")).expect("JSON");
    assert_eq!(get(SocketAddr::from((pod_ip(&pod), 8080))), "v1", "it never stopped");
    // The agent is at work again once it has run another pod; it had no reason to touch this one.
    cluster.run("other", "exec sleep 1000", json!({})).await;
    cluster.until_ready("other").await;
    let after = serde_json::to_value(cluster.pods().get("web").await.expect("a pod")).expect("JSON");
    assert_eq!((&after["status"], condition(&after, "Ready")), (&pod["status"], "True"));
    assert_eq!(web(&after)["restartCount"], 0);
    cluster.end().await;
}

async fn a_pod_deleted_behind_the_agents_back_is_ended() {
    let mut cluster = Cluster::start().await;
    cluster.run("web", "exec sleep 1000", json!({})).await;
    let pod = cluster.until_ready("web").await;
    let process = pid(&cluster, &pod);
    cluster.stop_agent().await;
    cluster.delete("web", DeleteParams::default().grace_period(0)).await;
    assert!(alive(process));
    cluster.start_agent().await;
    eventually("its process is gone", || !alive(process)).await;
    eventually("its directory is gone", || !cluster.options.data_dir.join("pods").join(uid(&pod)).exists()).await;
    cluster.end().await;
}

/// The parent of a process.
fn parent(process: i32) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.and_then(Pid::from_raw).expect("a parent")
}

fn children(process: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.as_raw_nonzero()));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)).collect()
}

async fn a_lost_supervisor_is_replaced() {
    let cluster = Cluster::start().await;
    cluster.run("web", "exec sleep 1000", json!({})).await;
    let pod = cluster.until_ready("web").await;
    let process = pid(&cluster, &pod);
    let supervisor = parent(process);
    let keeper = parent(supervisor.as_raw_nonzero().get());
    kill_process(supervisor, Signal::KILL).expect("it was there");
    eventually("the keeper has its process", || parent(process) == keeper).await;
    // Nobody is left to start the next one but the agent.
    let next = || children(keeper).into_iter().find(|child| child.as_raw_nonzero().get() != process);
    eventually("there is another supervisor", || next().is_some()).await;
    let next = next().expect("another supervisor");
    kill_process(keeper, Signal::KILL).expect("it was there");
    kill_process(next, Signal::KILL).expect("it was there");
    cluster.until_event("web", "SupervisorLost").await;
    let after = cluster.until_ready("web").await;
    assert_eq!(web(&after), web(&pod), "the container knows nothing of it");
    assert!(alive(process));
    cluster.end().await;
}

async fn all_pods_can_be_stopped() {
    let mut cluster = Cluster::start().await;
    cluster.run("web", "exec sleep 1000", json!({})).await;
    let pod = cluster.until_ready("web").await;
    let process = pid(&cluster, &pod);
    cluster.agent.take().expect("an agent").stop_all().await;
    assert!(!alive(process));
    cluster.start_agent().await;
    cluster.until("web", "afresh", |pod| condition(pod, "Ready") == "True" && !container_id(pod).is_empty()).await;
    let again = cluster.pods().get("web").await.expect("a pod");
    assert_eq!(again.metadata.uid.as_deref(), Some(&*uid(&pod)), "the same pod");
    cluster.end().await;
}

async fn many_pods_come_and_go() {
    const PODS: usize = 30;
    let cluster = Cluster::start().await;
    let probe = json!({"containers": [{"readinessProbe": http_probe("/healthz")}]});
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("descriptors").count();
    for _ in 0..2 {
        let before = descriptors();
        for number in 0..PODS {
            cluster.create(&format!("web-{number}"), demo(), probe.clone()).await;
        }
        let mut addresses = BTreeSet::new();
        for number in 0..PODS {
            addresses.insert(pod_ip(&cluster.until_ready(&format!("web-{number}")).await));
        }
        assert_eq!(addresses.len(), PODS, "each has its own address");
        for number in 0..PODS {
            cluster.delete(&format!("web-{number}"), DeleteParams::default()).await;
        }
        let pods = cluster.options.data_dir.join("pods");
        eventually("every pod is gone", || std::fs::read_dir(&pods).is_ok_and(|mut pods| pods.next().is_none())).await;
        // Other tests in this process open and close their own.
        eventually("its descriptors are closed", || descriptors() <= before + PODS / 2).await;
    }
    cluster.end().await;
}

/// The ProcessImage kind, as the engine installs it.
async fn install_process_images(cluster: &Cluster) {
    let yaml = include_str!("../../../model/crds/processimages.yaml");
    let request = http::Request::patch(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/processimages.sluice.dev?fieldManager=test",
    )
    .header("content-type", "application/apply-patch+yaml")
    .body(yaml.as_bytes().to_vec())
    .expect("a request");
    cluster.client.request_text(request).await.expect("the API takes the definition");
    let crds: kube::Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        kube::Api::all(cluster.client.clone());
    let noop = json!({"metadata": {"annotations": {"test": "seen"}}});
    crds.patch("processimages.sluice.dev", &PatchParams::default(), &Patch::Merge(noop)).await.expect("it is there");
}
