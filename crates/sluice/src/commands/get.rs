//! `sluice get`: objects as the API's own tables, or whole.

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::Request;
use kube::Resource as _;
use serde_json::Value;

use super::apply::qualified;
use crate::connect::{Connection, connect};
use crate::exit::Exit;
use crate::flags::{Get, Output};
use crate::kinds::{Kinds, Served, kind_and_name};
use crate::{printer, tables};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub(crate) async fn run(flags: Get) -> anyhow::Result<Exit> {
    let connection = connect(&flags.connect).await?;
    let (kind, name) = kind_and_name(&flags.kind);
    let name = name.or(flags.name.as_deref());
    let kinds = Kinds::ask(&connection.client).await?;
    let served = kinds.find(kind)?;
    let view = View { output: flags.output, namespaces: flags.all_namespaces && served.namespaced };
    let path = path(served, &connection, &flags, name);
    let answer: Value = connection.client.request(request(&path, view.output)?).await?;
    view.print(&answer, served, true);
    if flags.watch {
        watch(&connection, served, &flags, name, &view, &answer).await?;
    }
    Ok(Exit::Ok)
}

fn request(path: &str, output: Output) -> anyhow::Result<Request<Vec<u8>>> {
    let accept = if matches!(output, Output::Table | Output::Wide) { TABLE } else { "application/json" };
    Request::get(path).header("accept", accept).body(Vec::new()).context("the name makes no valid request")
}

fn path(served: &Served, connection: &Connection, flags: &Get, name: Option<&str>) -> String {
    let scope = (served.namespaced && !flags.all_namespaces).then_some(connection.namespace.as_str());
    let mut path = kube::core::DynamicObject::url_path(&served.resource, scope);
    match (name, &flags.selector) {
        (Some(name), _) => path = format!("{path}/{}", encode(name)),
        (None, Some(selector)) => path = format!("{path}?labelSelector={}", encode(selector)),
        (None, None) => {}
    }
    path
}

async fn watch(
    connection: &Connection,
    served: &Served,
    flags: &Get,
    name: Option<&str>,
    view: &View,
    seen: &Value,
) -> anyhow::Result<()> {
    let mut path = path(served, connection, flags, None);
    path.push(if path.contains('?') { '&' } else { '?' });
    let version = seen["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    path.push_str(&format!("watch=true&resourceVersion={version}"));
    if let Some(name) = name {
        path.push_str(&format!("&fieldSelector={}", encode(&format!("metadata.name={name}"))));
    }
    let stream = connection.client.request_stream(request(&path, view.output)?).await?;
    let mut lines = stream.lines();
    while let Some(line) = lines.try_next().await? {
        let event: Value = serde_json::from_str(&line).context("the API sent an event that is no JSON")?;
        anyhow::ensure!(event["type"] != "ERROR", "the watch ended: {}", event["object"]["message"]);
        view.print(&event["object"], served, false);
    }
    Ok(())
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

struct View {
    output: Output,
    namespaces: bool,
}

impl View {
    fn print(&self, answer: &Value, served: &Served, with_headers: bool) {
        match self.output {
            Output::Json => printer::line(&format!("{answer:#}")),
            Output::Yaml => printer::text(&yaml(answer)),
            Output::Name => {
                for object in objects(answer) {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    printer::line(&format!("{}/{name}", qualified(&served.resource)));
                }
            }
            Output::Table | Output::Wide => self.print_table(answer, with_headers),
        }
    }

    fn print_table(&self, table: &Value, with_headers: bool) {
        let (headers, rows) = tables::from_api(table, self.output == Output::Wide, self.namespaces);
        if rows.is_empty() {
            if with_headers {
                printer::note("No resources found");
            }
            return;
        }
        let text = tables::align(&headers, &rows);
        let skipped = if with_headers { 0 } else { text.find('\n').map_or(0, |n| n + 1) };
        printer::text(&text[skipped..]);
    }
}

fn objects(answer: &Value) -> Vec<&Value> {
    match answer["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![answer],
    }
}

pub(crate) fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}\n"))
}
