//! An API in this process and an agent over it: pods go in by `kube`, and are looked at as a user would.

use std::{io::Write as _, net::Ipv4Addr, path::Path, time::Duration};

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use sluice_node::{Agent, Driver, NodeOptions};

/// No state takes longer to come about, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) agent: Option<Agent>,
    pub(crate) options: NodeOptions,
    /// Keeps the data directory until the end.
    _directory: Option<tempfile::TempDir>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut NodeOptions)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cluster = Self::open(directory.path(), adjust).await;
        cluster._directory = Some(directory);
        cluster
    }

    /// Over a directory that somebody else takes care of.
    pub(crate) async fn open(directory: &Path, adjust: impl FnOnce(&mut NodeOptions)) -> Self {
        let data = directory.join("store");
        std::fs::create_dir_all(&data).expect("a directory");
        let store = sluice_store::Store::open(&data).expect("a store");
        let server = sluice_api::Server::start(store, sluice_api::Options::default()).await.expect("a server");
        let client = Client::new(server.in_process(sluice_api::Identity::system("tester")), "default");
        let exe = std::env::current_exe().expect("our own path");
        let mut options = NodeOptions::new(directory, exe);
        // Whoever runs these tests as root gets no network of containers that nobody takes down.
        options.driver = Driver::Process;
        options.node_name = "here".to_owned();
        adjust(&mut options);
        let mut cluster = Self { client, agent: None, options, _directory: None };
        // What controllers would make.
        cluster.put(("v1", "ServiceAccount"), json!({"metadata": {"name": "default"}})).await;
        let bundle = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "PEM"}});
        cluster.put(("v1", "ConfigMap"), bundle).await;
        cluster.start_agent().await;
        cluster
    }

    pub(crate) async fn start_agent(&mut self) {
        self.agent = Some(Agent::start(self.client.clone(), self.options.clone()).await.expect("an agent"));
    }

    pub(crate) async fn stop_agent(&mut self) {
        self.agent.take().expect("an agent").shutdown().await;
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Creates a pod on this node with one container `web` that runs a script; `more` is merged over the spec.
    pub(crate) async fn run(&self, name: &str, script: &str, more: Value) -> Pod {
        self.create(
            name,
            json!({"containers": [{"name": "web", "image": "host", "command": ["/bin/sh", "-c", script]}]}),
            more,
        )
        .await
    }

    pub(crate) async fn create(&self, name: &str, mut spec: Value, more: Value) -> Pod {
        spec["nodeName"] = json!("here");
        merge(&mut spec, more);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the API takes the pod")
    }

    /// Creates an object, or makes the one that is there look like this.
    pub(crate) async fn put(&self, (api_version, kind): (&str, &str), mut object: Value) {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        (object["apiVersion"], object["kind"]) = (json!(api_version), json!(kind));
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let api: Api<DynamicObject> = if matches!(kind, "ProcessImage" | "Namespace") {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        };
        match api.get_opt(&name).await.expect("the API answers") {
            Some(_) => drop(api.patch(&name, &PatchParams::default(), &Patch::Merge(object)).await.expect("a patch")),
            None => {
                let object = serde_json::from_value(object).expect("an object");
                api.create(&PostParams::default(), &object).await.expect("the API takes the object");
            }
        }
    }

    pub(crate) async fn delete(&self, name: &str, parameters: DeleteParams) {
        let _status_or_object = self.pods().delete(name, &parameters).await.expect("the pod is there");
    }

    /// Waits until the pod, as JSON, is as it should be.
    pub(crate) async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let pod = self.pods().get_opt(name).await.expect("the API answers");
            pod.map_or(Value::Null, |pod| serde_json::to_value(pod).expect("JSON"))
        };
        let mut pod = look().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(&pod) {
            if tokio::time::Instant::now() >= deadline {
                let events = self.events(name).await;
                panic!("{name}: never {what}: {:#}\n{events:#?}", pod["status"]);
            }
            tokio::time::sleep(LOOK).await;
            pod = look().await;
        }
        pod
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        self.until(name, "ready", |pod| condition(pod, "Ready") == "True").await
    }

    /// Events of a pod: `reason: message (count)`.
    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let api = Api::<Event>::default_namespaced(self.client.clone());
        let all = api.list(&ListParams::default()).await.expect("events");
        let mut events: Vec<Event> =
            all.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name)).collect();
        events.sort_by_key(|event| {
            event.metadata.resource_version.as_deref().and_then(|revision| revision.parse::<u64>().ok())
        });
        let show = |event: Event| {
            format!(
                "{}: {} ({})",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
                event.count.unwrap_or_default()
            )
        };
        events.into_iter().map(show).collect()
    }

    pub(crate) async fn until_event(&self, name: &str, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let events = self.events(name).await;
            if let Some(event) = events.iter().find(|event| event.contains(text)) {
                return event.clone();
            }
            assert!(tokio::time::Instant::now() < deadline, "no event `{text}`: {events:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the agent and everything that runs.
    pub(crate) async fn end(mut self) {
        if self.agent.is_none() {
            self.start_agent().await;
        }
        for pod in self.pods().list(&ListParams::default()).await.expect("pods").items {
            let name = pod.metadata.name.unwrap_or_default();
            self.delete(&name, DeleteParams::default().grace_period(0)).await;
        }
        let pods = self.options.data_dir.join("pods");
        eventually("every pod is gone", || std::fs::read_dir(&pods).is_ok_and(|mut pods| pods.next().is_none())).await;
        // With whatever network there may have been.
        self.agent.take().expect("an agent").stop_all().await;
    }
}

/// A test that fails leaves nothing running either.
impl Drop for Cluster {
    fn drop(&mut self) {
        for pod in std::fs::read_dir(self.options.data_dir.join("pods")).into_iter().flatten().flatten() {
            if let Ok(mut socket) = std::os::unix::net::UnixStream::connect(pod.path().join("supervisor.sock")) {
                let stop = json!({"id": 1, "request": {"verb": "stop", "graceSeconds": 0}});
                // The supervisor closes the connection when everything has ended.
                let _ = writeln!(socket, "{stop}").and_then(|()| std::io::copy(&mut socket, &mut std::io::sink()));
            }
        }
    }
}

pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("")
}

pub(crate) fn web(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

pub(crate) fn pod_ip(pod: &Value) -> Ipv4Addr {
    pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address")
}

pub(crate) fn alive(pid: i32) -> bool {
    // A zombie is dead; only its parent has not looked yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(patch)) => {
            for (index, value) in patch.into_iter().enumerate() {
                match target.get_mut(index) {
                    Some(target) => merge(target, value),
                    None => target.push(value),
                }
            }
        }
        (target, patch) => *target = patch,
    }
}
