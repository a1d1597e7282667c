//! Replays what a real API server answered: for each recorded step the live object, the body, and the entries expected.
//!
//! Only ownership is judged here; what a step makes of types and defaults is taken from the recorded answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::managed::{Scale, Versions, Writer, apply, update};
use crate::recorded::{Request, lacks, scenario, scenarios};
use crate::{Catalog, Kind, crd};

/// The custom kinds of one scenario.
#[derive(Default)]
struct Kinds(Vec<Arc<Kind>>);

impl Kinds {
    fn find(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        // The newest definition counts.
        let custom = self.0.iter().rev().find(|k| k.group == group && k.version == version && k.kind == kind);
        custom.or_else(|| Catalog::builtin().kind(group, version, kind)).cloned()
    }
}

impl Versions for Kinds {
    fn convert<'a>(&'a self, object: &Value, api_version: &str) -> Option<(&'a Kind, Value)> {
        let name = object["kind"].as_str()?;
        let custom = self.0.iter().rev().find(|k| k.api_version() == api_version && k.kind == name);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = custom.or_else(|| Catalog::builtin().kind(group, version, name))?;
        let mut object = object.clone();
        crate::convert(kind, &mut object);
        Some((kind, object))
    }
}

struct World {
    kinds: Kinds,
    live: BTreeMap<String, Value>,
    now: Timestamp,
}

/// What a step came to, if it says anything about ownership.
enum Outcome {
    Silent,
    Same,
    Differs(String),
}

impl World {
    fn step(&mut self, step: &Value) -> Outcome {
        let request = Request::parse(step);
        let answer = &step["answer"];
        let good = step["status"].as_u64().is_some_and(|code| code < 300);
        let outcome = match request.method {
            "GET" if good && self.live.contains_key(&request.path) && request.subresource.is_none() => {
                let dated = self.dated(&request.path, answer);
                self.live.insert(request.path, dated);
                Outcome::Silent
            }
            "PATCH" | "POST" | "PUT" if good && request.subresource.as_deref() == Some("scale") => {
                self.scale(&request);
                Outcome::Silent
            }
            "PATCH" | "POST" | "PUT" if good && answer["metadata"].is_object() => self.write(&request, answer),
            "PATCH" if request.is_apply() && !good => self.refused(&request, answer),
            "DELETE" if good => {
                self.live.remove(&request.path);
                Outcome::Silent
            }
            _ => Outcome::Silent,
        };
        if step["wait"].is_number() {
            self.now += SignedDuration::from_secs(5);
        }
        outcome
    }

    fn kind(&self, request: &Request<'_>, answer: &Value) -> Option<Arc<Kind>> {
        if answer["kind"] == "PartialObjectMetadata" {
            let live = self.live.get(&request.path)?;
            return self.kinds.find(live["apiVersion"].as_str()?, live["kind"].as_str()?);
        }
        self.kinds.find(answer["apiVersion"].as_str()?, answer["kind"].as_str()?)
    }

    fn refused(&mut self, request: &Request<'_>, answer: &Value) -> Outcome {
        let message = answer["message"].as_str().unwrap_or_default();
        const OURS: [&str; 4] =
            ["Apply failed", "failed to create typed", "metadata.managedFields", "failed to convert new object: "];
        let (Some(body), Some(live)) = (request.body(), self.live.get(&request.path)) else { return Outcome::Silent };
        if !OURS.iter().any(|ours| message.starts_with(ours)) || request.subresource.as_deref() == Some("scale") {
            return Outcome::Silent;
        }
        let Some(kind) = self.kind(request, &body) else { return Outcome::Silent };
        let manager = request.manager();
        let writer = self.writer(&kind, &manager, request);
        match apply(&writer, Some(&self.view(&kind, live)), &body, request.force()) {
            Err(error) if error.to_string() == message => Outcome::Same,
            Err(error) => Outcome::Differs(format!("says {error}\n  expected {message}")),
            Ok(_) => Outcome::Differs(format!("applied, expected {message}")),
        }
    }

    /// The object in the version of the request.
    fn view(&self, kind: &Kind, live: &Value) -> Value {
        let converted = self.kinds.convert(live, &kind.api_version());
        converted.map_or_else(|| live.clone(), |(_, object)| object)
    }

    /// Recorded times are masked: an entry that is not known yet was written now.
    fn dated(&self, path: &str, answer: &Value) -> Value {
        let known = self.live.get(path).map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
        let mut object = answer.clone();
        for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            if entry.get("time").is_some() {
                let mut same =
                    known.as_array().into_iter().flatten().filter(|known| known["fieldsV1"] == entry["fieldsV1"]);
                let time = same.find_map(|known| (known["manager"] == entry["manager"]).then(|| known["time"].clone()));
                entry["time"] = time.unwrap_or_else(|| json!(self.now.to_string()));
            }
        }
        object
    }

    /// The entries of the parent show in its next answer.
    fn scale(&mut self, request: &Request<'_>) {
        let (Some(body), Some(live)) = (request.body(), self.live.get(&request.path)) else { return };
        let version = live["apiVersion"].as_str().unwrap_or_default().to_owned();
        let paths = [(version, vec!["spec".to_owned(), "replicas".to_owned()])];
        let scale = Scale { paths: &paths };
        let old = json!({
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]},
            "spec": {"replicas": live["spec"]["replicas"]},
        });
        let (manager, kind) = (request.manager(), scale_kind());
        let writer = Writer { subresource: Some("scale"), ..self.writer(&kind, &manager, request) };
        let (new, entries) = if request.is_apply() {
            scale.apply(&writer, live, &old, &body, request.force()).expect("a recorded success")
        } else {
            let new = patched(&old, &body);
            let entries = scale.update(&writer, live, &old, &new);
            (new, entries)
        };
        if !request.query.contains_key("dryRun") {
            let mut parent = live.clone();
            parent["spec"]["replicas"] = new["spec"]["replicas"].clone();
            parent["metadata"]["managedFields"] = entries;
            self.live.insert(request.path.clone(), parent);
        }
    }

    fn writer<'a>(&'a self, kind: &'a Kind, manager: &'a str, request: &'a Request<'_>) -> Writer<'a> {
        Writer { kind, manager, subresource: request.subresource.as_deref(), now: self.now, versions: &self.kinds }
    }

    fn write(&mut self, request: &Request<'_>, answer: &Value) -> Outcome {
        let (Some(body), Some(kind)) = (request.body(), self.kind(request, answer)) else { return Outcome::Silent };
        let path = match request.method {
            "POST" => format!("{}/{}", request.path, answer["metadata"]["name"].as_str().unwrap_or_default()),
            _ => request.path.clone(),
        };
        if kind.kind == "CustomResourceDefinition" {
            self.kinds.0.extend(crd::compile(answer).unwrap_or_default().into_iter().map(Arc::new));
        }
        let live = self.live.get(&path).map(|live| self.view(&kind, live));
        let live = live.as_ref();
        let manager = request.manager();
        let writer = self.writer(&kind, &manager, request);
        let (entries, stored, problem) = if request.is_apply() {
            match apply(&writer, live, &body, request.force()) {
                Ok(object) => {
                    let judged = request.subresource.is_none();
                    let problem = judged.then(|| lacks(&object, answer, "")).flatten();
                    (object["metadata"]["managedFields"].clone(), answer.clone(), problem)
                }
                Err(error) => return Outcome::Differs(format!("refused: {error}")),
            }
        } else {
            let mut new = answer.clone();
            if new["kind"] == "PartialObjectMetadata" {
                new = live.map(|live| patched(live, &body)).unwrap_or_default();
            }
            let sent = if request.method == "PATCH" { live.map(|live| patched(live, &body)) } else { Some(body) };
            new["metadata"]["managedFields"] = sent.unwrap_or_default()["metadata"]["managedFields"].clone();
            update(&writer, live, &mut new);
            (new["metadata"]["managedFields"].clone(), new, None)
        };
        let found = masked(&entries);
        let mut stored = stored;
        if stored["kind"] != "Status" && !request.query.contains_key("dryRun") {
            if stored["metadata"].get("managedFields").is_some() {
                stored["metadata"]["managedFields"] = entries;
            }
            self.live.insert(path, stored);
        }
        let expected = masked(&answer["metadata"]["managedFields"]);
        if found != expected {
            return Outcome::Differs(format!("entries differ{}", entries_differ(&found, &expected)));
        }
        problem.map_or(Outcome::Same, Outcome::Differs)
    }
}

/// The live object with the patch: enough to see what it does to the entries.
fn patched(live: &Value, body: &Value) -> Value {
    let mut new = live.clone();
    match body {
        Value::Array(_) => crate::merge::json_patch(&mut new, body).expect("a recorded success"),
        body => crate::merge::json_merge(&mut new, body),
    }
    new
}

fn masked(entries: &Value) -> Value {
    let mut entries = entries.clone();
    for entry in entries.as_array_mut().into_iter().flatten() {
        if entry.get("time").is_some() {
            entry["time"] = json!("<time>");
        }
    }
    entries
}

/// `Scale` as a kind of its own.
fn scale_kind() -> Kind {
    let catalog = Catalog::builtin();
    let ty = catalog.body("autoscaling", "v1", "Scale").expect("a built-in body");
    let neighbour = catalog.kind("autoscaling", "v1", "HorizontalPodAutoscaler").expect("a built-in kind");
    Kind { kind: "Scale".to_owned(), root: ty.id, subresources: Vec::new(), ..Kind::clone(neighbour) }
}

/// The entries that only one side has.
fn entries_differ(found: &Value, expected: &Value) -> String {
    let all = |entries: &Value| entries.as_array().cloned().unwrap_or_default();
    let (found, expected) = (all(found), all(expected));
    let only = |sign: &str, these: &[Value], those: &[Value]| {
        let only = these.iter().filter(|entry| !those.contains(entry));
        only.map(|entry| format!("\n    {sign} {entry}")).collect::<String>()
    };
    only("has ", &found, &expected) + &only("lacks ", &expected, &found)
}

/// Exact steps, judged steps, and what differs.
fn replay(file: &Path) -> (usize, usize, Vec<String>) {
    let scenario = scenario(file);
    let mut world = World { kinds: Kinds::default(), live: BTreeMap::new(), now: Timestamp::UNIX_EPOCH };
    world.now += SignedDuration::from_hours(500_000);
    let (mut exact, mut judged, mut differences) = (0, 0, Vec::new());
    for (index, step) in scenario["steps"].as_array().into_iter().flatten().enumerate() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        match world.step(step) {
            Outcome::Silent => {}
            Outcome::Same => {
                exact += 1;
                judged += 1;
            }
            Outcome::Differs(how) => {
                judged += 1;
                differences.push(format!("{name} {index} {}: {how}", step["do"].as_str().unwrap_or_default()));
            }
        }
    }
    (exact, judged, differences)
}

/// Exact and judged steps of all scenarios, and what differs.
fn replay_all(dir: &Path) -> (usize, usize, String) {
    let (mut exact, mut judged, mut all) = (0, 0, Vec::new());
    for file in scenarios(dir) {
        let (good, steps, differences) = replay(&file);
        exact += good;
        judged += steps;
        all.extend(differences);
    }
    (exact, judged, all.join("\n"))
}

#[test]
fn recorded_writes_leave_the_recorded_entries() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apply");
    let (exact, judged, differences) = replay_all(&ours);
    assert!(exact == judged && judged > 200, "{exact} of {judged} steps\n{differences}");
    // Where all recordings are at hand: a few steps need what only the whole server knows.
    if let Some(dir) = std::env::var_os("SLUICE_RECORDED") {
        let (exact, judged, differences) = replay_all(&Path::new(&dir).join("apply"));
        assert!(judged > 0 && exact * 100 >= judged * 95, "{exact} of {judged} steps\n{differences}");
    }
}
