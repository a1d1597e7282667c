//! An API in this process with a gateway on it, and everything needed to put a Service behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use sluice_api::{Identity, Options, Server};
use sluice_gateway::{CONTROLLER_NAME, GATEWAY_CLASS, Gateway, GatewayHandle, GatewayOptions, LEASE_NAMESPACE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Whatever a test waits for has to happen within this time.
const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) gateway: GatewayHandle,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(GatewayOptions { workers: 2, ..GatewayOptions::default() }).await
    }

    pub(crate) async fn start_with(options: GatewayOptions) -> Self {
        let server = Server::start(sluice_store::Store::in_memory(), Options::default()).await.expect("an API");
        let client = Client::new(server.in_process(Identity::system("test")), "default");
        let ours = sluice_model::crds::ALL.iter().map(|yaml| serde_saphyr::from_str(yaml).expect("a definition"));
        for definition in ours.chain(sluice_schema::gateway_api()) {
            apply_with(&client, &definition).await;
        }
        // Pods need it; a controller makes it elsewhere.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"}});
        apply_with(&client, &account).await;
        let gateway = Gateway::start(client.clone(), options).await.expect("a gateway");
        let world = Self { client, gateway };
        world
            .apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
                "metadata": {"name": GATEWAY_CLASS}, "spec": {"controllerName": CONTROLLER_NAME}}))
            .await;
        world
    }

    /// A Gateway with one listener, a route for host `shop`, and Service `shop`.
    pub(crate) async fn shop(&self) {
        self.gateway("gw", json!([{"name": "http", "port": 80, "protocol": "HTTP"}])).await;
        self.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "shop", "namespace": "default"}, "spec": {"parentRefs": [{"name": "gw"}],
            "hostnames": ["shop"], "rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]}}))
            .await;
        self.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}))
            .await;
    }

    pub(crate) async fn gateway(&self, name: &str, listeners: Value) {
        let mut gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"gatewayClassName": GATEWAY_CLASS}});
        gateway["spec"]["listeners"] = listeners;
        self.apply(gateway).await;
    }

    /// A pod of this version that answers with its name, listed in an EndpointSlice of its own. Gives its uid.
    pub(crate) async fn pod(&self, name: &str, hash: &str) -> String {
        let address = answering(name).await;
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("shop-{hash}"),
            "uid": "4f9c7b2e-0000-4000-8000-000000000000", "controller": true});
        let pod = self
            .apply(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default",
                "labels": {"app": "shop", "pod-template-hash": hash}, "ownerReferences": [owner]},
                "spec": {"nodeName": "here", "containers": [{"name": "c", "image": "host"}]}}))
            .await;
        let uid = pod.metadata.uid.expect("a uid");
        let endpoint = json!({"addresses": [address.ip()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": name, "namespace": "default", "uid": uid}});
        self.apply(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "shop"}},
            "ports": [{"name": "http", "port": address.port()}], "endpoints": [endpoint]}))
            .await;
        uid
    }

    /// Deletes the pod, which stays as long as nobody has stopped it. Gives the revision of its deletion.
    pub(crate) async fn delete_pod(&self, name: &str) -> u64 {
        let pods = api(&self.client, "v1", "Pod", Some("default"));
        let deleted = pods.delete(name, &DeleteParams::default()).await.expect("deleted");
        let pod = deleted.left().expect("the pod is terminating, not gone");
        pod.metadata.resource_version.and_then(|revision| revision.parse().ok()).expect("a revision")
    }

    pub(crate) async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        api(&self.client, "v1", kind, Some(namespace)).delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    /// Another gateway in place of this one.
    pub(crate) async fn restart(self) -> Self {
        let Self { client, gateway } = self;
        gateway.shutdown().await;
        let options = GatewayOptions { workers: 2, ..GatewayOptions::default() };
        let gateway = Gateway::start(client.clone(), options).await.expect("a gateway");
        Self { client, gateway }
    }

    pub(crate) async fn apply(&self, object: Value) -> DynamicObject {
        apply_with(&self.client, &object).await
    }

    pub(crate) async fn status(&self, kind: &str, name: &str) -> Value {
        let namespace = (kind != "GatewayClass").then_some("default");
        let object = api(&self.client, "gateway.networking.k8s.io/v1", kind, namespace).get(name).await.expect("there");
        object.data["status"].clone()
    }

    pub(crate) async fn object(&self, version: &str, kind: &str, name: &str) -> DynamicObject {
        api(&self.client, version, kind, Some("default")).get(name).await.expect("there")
    }

    pub(crate) async fn objects(&self, version: &str, kind: &str) -> Vec<DynamicObject> {
        let listed = api(&self.client, version, kind, Some("default")).list(&ListParams::default()).await;
        listed.expect("a list").items
    }

    /// `TYPE=STATUS/REASON` of every condition, in order of their names.
    pub(crate) fn words(conditions: &Value) -> String {
        let words = conditions.as_array().into_iter().flatten().map(|condition| {
            let [kind, status, reason] =
                ["type", "status", "reason"].map(|member| condition[member].as_str().unwrap_or("?"));
            format!("{kind}={status}/{reason}")
        });
        let mut words: Vec<String> = words.collect();
        words.sort();
        words.join(" ")
    }

    /// The annotation `sluice.dev/NAME` of the gateway's Lease.
    pub(crate) async fn lease(&self, name: &str) -> Option<Value> {
        self.lease_of("local", name).await
    }

    /// The same of another gateway.
    pub(crate) async fn lease_of(&self, instance: &str, name: &str) -> Option<Value> {
        let leases = api(&self.client, "coordination.k8s.io/v1", "Lease", Some(LEASE_NAMESPACE));
        let lease = leases.get_opt(&format!("gateway-{instance}")).await.expect("readable")?;
        let annotations = lease.metadata.annotations.unwrap_or_default();
        annotations.get(&format!("sluice.dev/{name}")).map(|text| serde_json::from_str(text).expect("JSON"))
    }

    /// The newest revision of this resource that every worker serves.
    pub(crate) async fn acknowledged(&self, resource: &str) -> u64 {
        let revisions = self.lease("acknowledged").await.unwrap_or_default();
        revisions[resource].as_str().and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }

    /// Status and body of `GET PATH` for host `shop`.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        get(self.gateway.address(), path, headers).await
    }

    pub(crate) async fn wait_for_answer(&self, expected: (u16, &str)) {
        self.wait(&format!("answer {expected:?}"), async || {
            let (status, body) = self.get("/", "").await;
            status == expected.0 && body.contains(expected.1)
        })
        .await;
    }

    /// Polls until it holds.
    pub(crate) async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let mut ticks = tokio::time::interval(POLL);
        let reached = async {
            while !holds().await {
                ticks.tick().await;
            }
        };
        if tokio::time::timeout(DEADLINE, reached).await.is_err() {
            panic!("not reached in time: {what}");
        }
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let (status, _, body) = answer(address, path, headers).await;
    (status, body)
}

/// Status, head and body.
pub(crate) async fn answer(address: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (status, head.to_owned(), body.to_owned())
}

async fn apply_with(client: &Client, object: &Value) -> DynamicObject {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let [version, kind, name] =
        ["/apiVersion", "/kind", "/metadata/name"].map(|pointer| text(pointer).expect("a whole object"));
    let api = api(client, version, kind, text("/metadata/namespace"));
    let parameters = PatchParams::apply("test").force();
    api.patch(name, &parameters, &Patch::Apply(object)).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}

fn api(client: &Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// An HTTP server that answers everything with its name, on a loopback address of its own.
async fn answering(name: &str) -> SocketAddr {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let ip = IpAddr::from([127, 66, 0, LAST.fetch_add(1, Ordering::Relaxed)]);
    let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while matches!(stream.read(&mut head).await, Ok(1..)) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
