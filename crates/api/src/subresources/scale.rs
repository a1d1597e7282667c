//! `/scale`: the number of replicas of anything that has one, in one shape.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_model::selector::Selector;
use sluice_schema::{Fault, Kind, managed};

use crate::body::Body;
use crate::builtin;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::render;
use crate::request::{BodyFormat, PatchFormat, WriteOptions};
use crate::rules;
use crate::verbs::{self, judge_fields, patched, wanted_revision};

/// Where a kind keeps what a scale shows.
struct Paths {
    spec: Vec<String>,
    status: Vec<String>,
    /// A label selector as text, for custom resources.
    selector: Option<Vec<String>>,
}

impl Paths {
    fn of(kind: &Kind) -> Self {
        let parts = |path: &str| path.trim_start_matches('.').split('.').map(str::to_owned).collect();
        match kind.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
            Some(scale) => Self {
                spec: parts(&scale.spec_replicas),
                status: parts(&scale.status_replicas),
                selector: scale.label_selector.as_deref().map(parts),
            },
            None => Self { spec: parts("spec.replicas"), status: parts("status.replicas"), selector: None },
        }
    }
}

pub(super) fn get(call: &Call) -> Result<Response<Body>, Refusal> {
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let paths = Paths::of(call.kind());
    if call.kind().custom.is_some() && entry.value().pointer(&pointer(&paths.spec)).is_none_or(Value::is_null) {
        let path = paths.spec.join(".");
        return Err(Refusal::Internal(format!("the spec replicas field \".{path}\" does not exist")));
    }
    render::object(call, StatusCode::OK, view(call.kind(), &paths, &entry.value()))
}

pub(super) async fn update(call: &Call) -> Result<Response<Body>, Refusal> {
    let scale_kind = builtin::body("autoscaling", "v1", "Scale");
    let format = BodyFormat::of(call.content_type.as_deref(), call.kind())?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "UpdateOptions")?;
    let mut decoded = rules::decode(&scale_kind, format, &call.body)?;
    judge_fields(call, &scale_kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let sent = decoded.object;
    let wanted = wanted_revision(&sent)?;
    if sent.name() != call.name() && !sent.name().is_empty() {
        return Err(Refusal::bad(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            sent.name(),
            call.name()
        )));
    }
    edit(call, &options, |live, _| {
        if wanted.is_some_and(|wanted| wanted.to_string() != live.resource_version()) {
            return Err(Refusal::stale(call.kind(), call.name()));
        }
        Ok((sent.clone(), None))
    })
    .await
}

pub(super) async fn patch(call: &Call) -> Result<Response<Body>, Refusal> {
    let scale_kind = builtin::body("autoscaling", "v1", "Scale");
    let format = PatchFormat::of(call.content_type.as_deref(), call.kind())?;
    let options = WriteOptions::parse_patch(&call.query, &call.user_agent, format == PatchFormat::Apply)?;
    if format == PatchFormat::Apply {
        let intent = rules::read_apply(call, &options)?;
        return edit(call, &options, |live, old| {
            let applied = rules::with_writer(call, &scale_kind, &options.manager, Some("scale"), |writer| {
                let paths = owned_paths(call.kind());
                managed::Scale { paths: &paths }.apply(writer, live, old, &intent, options.force)
            });
            let (new, entries) = applied.map_err(rules::refused)?;
            if call.kind().custom.is_some() && new["spec"] != old["spec"] {
                // A real server cannot do this either: it looks for the custom kind in the group of `Scale`.
                return Err(Refusal::Unexplained(format!(
                    "failed to convert new object ({}) to proper version: request to convert CR to an invalid group/version: \
                     autoscaling/v1",
                    managed::named(&intent)
                )));
            }
            Ok((new, Some(entries)))
        })
        .await;
    }
    if call.server.storage().get(&call.key()).is_none() {
        return Err(Refusal::not_found(call.kind(), call.name()));
    }
    let patch = rules::read_patch(format, &call.body)?;
    edit(call, &options, |live, old| {
        let new = patched(call, &scale_kind, old, &patch, options.validation)?;
        if !new.resource_version().is_empty() && new.resource_version() != live.resource_version() {
            wanted_revision(&new)?;
            return Err(Refusal::stale(call.kind(), call.name()));
        }
        Ok((new, None))
    })
    .await
}

/// Writes the replicas that `change` asks for, given the parent and its scale. With the new scale may come the parent's
/// new managed fields.
async fn edit(
    call: &Call,
    options: &WriteOptions,
    change: impl Fn(&Value, &Value) -> Result<(Value, Option<Value>), Refusal>,
) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let paths = Paths::of(kind);
    let scale_kind = builtin::body("autoscaling", "v1", "Scale");
    let object = verbs::edit(call, None, options.dry_run, |live| {
        let old = view(kind, &paths, live);
        let (new, entries) = change(live, &old)?;
        let replicas = new["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 && kind.custom.is_some() {
            let path = format!(".{}", paths.spec.join("."));
            let fault = Fault::invalid(path, replicas, "should be a non-negative integer");
            return Err(Refusal::invalid(kind, call.name(), vec![fault]));
        }
        if replicas < 0 {
            let fault = Fault::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Refusal::invalid(&scale_kind, call.name(), vec![fault]));
        }
        let entries = entries.unwrap_or_else(|| {
            rules::with_writer(call, &scale_kind, &options.manager, Some("scale"), |writer| {
                let mut told = old.clone();
                told["spec"] = new["spec"].clone();
                managed::Scale { paths: &owned_paths(kind) }.update(writer, live, &old, &told)
            })
        });
        let mut parent = live.clone();
        put(&mut parent, &paths.spec, json!(replicas));
        match entries.as_array().is_some_and(|list| !list.is_empty()) {
            true => parent.set_meta("managedFields", entries),
            false => parent.drop_meta("managedFields"),
        }
        Ok(parent)
    })
    .await?;
    render::object(call, StatusCode::OK, view(kind, &paths, &object))
}

/// What a scale shows of its parent.
fn view(kind: &Kind, paths: &Paths, parent: &Value) -> Value {
    let metadata = &parent["metadata"];
    let mut about = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(field) {
            about[field] = value.clone();
        }
    }
    let number = |path: &[String]| parent.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut spec = json!({});
    if number(&paths.spec) != 0 {
        spec["replicas"] = json!(number(&paths.spec));
    }
    let mut status = json!({"replicas": number(&paths.status)});
    let selector = match &paths.selector {
        Some(path) => parent.pointer(&pointer(path)).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => selector_text(kind, &parent["spec"]["selector"]),
    };
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": about, "spec": spec, "status": status})
}

fn selector_text(kind: &Kind, selector: &Value) -> String {
    if kind.custom.is_some() {
        return String::new();
    }
    if kind.is("", "ReplicationController") {
        return Selector::from_map(selector).to_string();
    }
    Selector::from_object(selector).map(|selector| selector.to_string()).unwrap_or_default()
}

/// For managed fields: under which path each version keeps its replicas.
fn owned_paths(kind: &Kind) -> Vec<(String, Vec<String>)> {
    vec![(kind.api_version(), Paths::of(kind).spec)]
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|part| format!("/{part}")).collect()
}

fn put(object: &mut Value, path: &[String], value: Value) {
    match path {
        [] => *object = value,
        [field, rest @ ..] => {
            if !object.is_object() {
                *object = json!({});
            }
            put(&mut object[field.as_str()], rest, value);
        }
    }
}
