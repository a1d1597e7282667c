//! A server with nothing in it, and one way to ask it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sluice_api::{Body, Identity, Options, Server};
use sluice_store::Store;
use tower::ServiceExt;

/// How long a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Town {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) user: Identity,
}

impl Town {
    /// A server over a store in memory, with the namespace `ns` and its default account.
    pub(crate) async fn new() -> Self {
        let store = Store::in_memory();
        let server = Server::start(store.clone(), Options::default()).await.expect("an empty store can be started");
        let town = Self { server, store, user: Identity::system("tester") };
        town.post("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await.created();
        town.post("/api/v1/namespaces/ns/serviceaccounts", json!({"metadata": {"name": "default"}})).await.created();
        town
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, "application/json", Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask("PUT", path, "application/json", Some(body)).await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Answer {
        self.ask("PATCH", path, "application/merge-patch+json", Some(body)).await
    }

    pub(crate) async fn apply(&self, path: &str, manager: &str, body: Value) -> Answer {
        self.ask("PATCH", &format!("{path}?fieldManager={manager}"), "application/apply-patch+yaml", Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, options: Option<Value>) -> Answer {
        self.ask("DELETE", path, "application/json", options).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, content_type: &str, body: Option<Value>) -> Answer {
        Answer::of(self.send(method, path, content_type, body).await).await
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: Option<Value>) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", "town/1");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).expect("the tests ask well-formed questions");
        let Ok(response) = self.server.in_process(self.user.clone()).oneshot(request).await;
        response
    }

    /// How many bytes an answer has.
    pub(crate) async fn bytes(&self, path: &str) -> usize {
        let Ok(body) = self.send("GET", path, "", None).await.into_body().collect().await;
        body.to_bytes().len()
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        let response = self.send("GET", path, "", None).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Events { body: response.into_body(), rest: Vec::new() }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) text: String,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|w| String::from_utf8_lossy(w.as_bytes()).into_owned()).collect();
        let Ok(body) = response.into_body().collect().await;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Self { code, body: serde_json::from_str(&text).unwrap_or_default(), text, warnings }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.code, 200, "{}", self.text);
        self.body
    }

    #[track_caller]
    pub(crate) fn created(self) -> Value {
        assert_eq!(self.code, 201, "{}", self.text);
        self.body
    }

    /// Checks a refusal: its code, and its message.
    #[track_caller]
    pub(crate) fn refused(&self, code: u16, message: &str) {
        assert_eq!((self.code, self.body["message"].as_str().unwrap_or(&self.text)), (code, message));
    }
}

/// The events of a watch, one by one.
pub(crate) struct Events {
    body: Body,
    rest: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("every line is an event"));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event comes in time");
            let Ok(frame) = frame?;
            self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn told(&mut self) -> String {
        let event = self.next().await.expect("the watch goes on");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap_or_default()).trim_end().to_owned()
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"v": value}}, "data": {"v": value}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
           "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
}

pub(crate) fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("every answer has a revision").to_owned()
}
