//! The engine under load, spoken to as anybody does: objects by its API, acknowledgements in the gateway's Lease.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::backend::PORT;
use super::client::HOST;
use crate::engine::{Engine, PATIENCE};

pub(super) const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways";
pub(super) const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
pub(super) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
pub(super) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(super) const SECRETS: &str = "/api/v1/namespaces/default/secrets";
pub(super) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/sluice-system/leases";
/// How often a state is looked at that somebody waits for.
const LOOK: Duration = Duration::from_millis(3);
/// The Services whose backends are in this process; the last one's speak HTTP/2.
pub(super) const POOLS: [&str; 4] = ["steady", "hinting", "silent", "http2"];

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) api: Api,
    pub(super) plain: SocketAddr,
    pub(super) tls: SocketAddr,
    /// A listener that comes and goes.
    pub(super) passing: SocketAddr,
}

#[derive(Clone)]
pub(super) struct Api(Client);

impl World {
    pub(super) async fn start(sluice: &std::path::Path) -> anyhow::Result<Self> {
        let engine = Engine::start_with(sluice, &["--driver", "process", "--dns", "off"])?;
        let file = Kubeconfig::read_from(&engine.ready.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let plain: SocketAddr = engine.ready.gateway.trim_start_matches("http://").parse()?;
        let at = |port| SocketAddr::new(plain.ip(), port);
        let (tls, passing) = (at(free_port()?), at(free_port()?));
        Ok(Self { engine, api: Api(Client::try_from(config)?), plain, tls, passing })
    }

    pub(super) fn listeners(&self, hostname: Option<&str>, passing: bool) -> Value {
        let mut all = vec![
            json!({"name": "plain", "protocol": "HTTP", "port": 80}),
            json!({"name": "tls", "protocol": "HTTPS", "port": self.tls.port(), "tls": {"certificateRefs": [{"name": "load"}]}}),
        ];
        all.extend(hostname.map(|name| json!({"name": "named", "protocol": "HTTP", "port": 80, "hostname": name})));
        all.extend(passing.then(|| json!({"name": "passing", "protocol": "HTTP", "port": self.passing.port()})));
        Value::Array(all)
    }

    pub(super) async fn furnish(&self, secret: Value) -> anyhow::Result<()> {
        let api = &self.api;
        api.create(SECRETS, secret).await?;
        for pool in POOLS {
            let mut port = json!({"name": "main", "port": 80});
            if pool == "http2" {
                port["appProtocol"] = json!("kubernetes.io/h2c");
            }
            api.create(
                SERVICES,
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": pool}, "spec": {"ports": [port]}}),
            )
            .await?;
            api.create(SLICES, slice(pool, &[])).await?;
        }
        api.create(
            SERVICES,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pods"},
            "spec": {"selector": {"app": "pods"}, "ports": [{"name": "main", "port": 80, "targetPort": "http"}]}}),
        )
        .await?;
        api.create(DEPLOYMENTS, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pods"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "pods"}}, "template": {"metadata": {"labels": {"app": "pods"}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "shop", "image": "sluice.dev/demo:v1",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}}]}}}})).await?;
        api.create(
            GATEWAYS,
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "load"},
            "spec": {"gatewayClassName": "sluice", "listeners": self.listeners(None, true)}}),
        )
        .await?;
        let to = |path: &str, backends: Value| json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": backends});
        let rules = json!([
            to(
                "/mixed",
                json!([{"name": "steady", "port": 80, "weight": 50}, {"name": "hinting", "port": 80, "weight": 50}])
            ),
            to("/silent", json!([{"name": "silent", "port": 80}])),
            to("/http2", json!([{"name": "http2", "port": 80}])),
            to("/load.Echo", json!([{"name": "http2", "port": 80}])),
            to("/pods", json!([{"name": "pods", "port": 80}])),
        ]);
        api.create(
            ROUTES,
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "load"},
            "spec": {"parentRefs": [{"name": "load"}], "hostnames": [HOST, "*.load.example"], "rules": rules}}),
        )
        .await?;
        Ok(())
    }
}

/// The endpoints of a Service. They are nobody's pods.
pub(super) fn slice(pool: &str, backends: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> =
        backends.iter().map(|address| json!({"addresses": [address.ip()], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": pool, "labels": {"kubernetes.io/service-name": pool}}, "addressType": "IPv4",
        "ports": [{"name": "main", "port": PORT, "protocol": "TCP"}], "endpoints": endpoints})
}

impl Api {
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, "", Value::Null).await
    }

    pub(super) async fn create(&self, path: &str, object: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, "application/json", object).await
    }

    pub(super) async fn merge(&self, path: &str, patch: Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, "application/merge-patch+json", patch).await
    }

    pub(super) async fn edit(&self, path: &str, patch: Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, "application/json-patch+json", patch).await
    }

    pub(super) async fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(self.0.request_text(Request::get(path).body(Vec::new())?).await?)
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body)? };
        let request = Request::builder().method(method.clone()).uri(path).header("content-type", kind).body(body)?;
        self.0.request(request).await.with_context(|| format!("{method} {path}"))
    }

    /// Until the gateway serves this EndpointSlice, and nobody is asked any more at `gone`.
    pub(super) async fn until_served(&self, slice: &Value, gone: &[SocketAddr]) -> anyhow::Result<()> {
        let revision =
            slice.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("an object has a revision")?;
        let revision: u64 = revision.parse()?;
        let gone: Vec<String> = gone.iter().map(|address| format!("default/{address}")).collect();
        let gone = &gone;
        self.until("the gateway has gone over", || async move {
            let lease = self.get(&format!("{LEASES}/gateway-local")).await?;
            let said = |name: &str| -> Option<Value> {
                serde_json::from_str(lease["metadata"]["annotations"][name].as_str()?).ok()
            };
            let acknowledged = said("sluice.dev/acknowledged").unwrap_or_default();
            let acknowledged = acknowledged["endpointslices"].as_str().and_then(|text| text.parse::<u64>().ok());
            let draining = said("sluice.dev/draining").unwrap_or_default();
            let drains =
                |name: &String| draining.as_array().is_some_and(|all| all.iter().any(|one| one == name.as_str()));
            Ok(acknowledged.is_some_and(|newest| newest >= revision) && !gone.iter().any(drains))
        })
        .await
    }

    /// Tables that every worker has gone over to.
    pub(super) async fn generation(&self) -> anyhow::Result<u64> {
        let text = self.text("/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix("sluice_gateway_generation "));
        Ok(line.context("the gateway counts its tables")?.trim().parse()?)
    }

    pub(super) async fn until<F>(&self, what: &str, holds: impl Fn() -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<bool>>,
    {
        let started = Instant::now();
        while !holds().await? {
            anyhow::ensure!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
