//! Replays recorded writes through decoding, defaulting, preparation and validation alone, without a server.
//!
//! Each step is judged on its own: what an object was before is taken from the recorded answers. What only a server can
//! add (uids, revisions, addresses, what admission fills in) is left out of the comparison.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice_schema::decode::{self, Expected, Format};
use sluice_schema::{Catalog, Kind, defaults, families, merge, prepare, validate};

/// How a recorded area is judged.
#[derive(Default)]
struct Score {
    exact: usize,
    judged: usize,
    report: String,
}

/// Runs all scenarios of a directory.
fn score(dir: &Path) -> Score {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("a readable directory").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut score = Score::default();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let text = std::fs::read_to_string(&file)
            .expect("a readable scenario")
            .replace("${ns}", "ns")
            .replace("<uuid>", UID)
            .replace("<uid>", UID)
            .replace("<time>", TIME)
            .replace("${ip}", "10.96.0.9");
        let scenario: Value = serde_json::from_str(&text).expect("a scenario is JSON");
        let mut world = BTreeMap::new();
        for (index, step) in scenario["steps"].as_array().into_iter().flatten().enumerate() {
            let Some(verdict) = judge(step, &mut world) else { continue };
            score.judged += 1;
            match verdict {
                Ok(()) => score.exact += 1,
                Err(difference) => {
                    writeln!(score.report, "{name} step {index}: {}\n{difference}", step["do"])
                        .expect("a string grows");
                }
            }
        }
    }
    score
}

/// The parts of a path.
struct Target<'a> {
    kind: &'a Kind,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

fn target(path: &str) -> Option<Target<'static>> {
    let path = path.split('?').next()?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let kind = Catalog::builtin().resource(group, version, rest.first()?)?;
    let part = |index: usize| rest.get(index).map(|part| (*part).to_owned());
    Some(Target { kind, namespace: namespace.to_owned(), name: part(1), subresource: part(2) })
}

type World = BTreeMap<(String, String), Value>;

/// Whether a step comes out as recorded; nothing for steps that are not about these rules.
fn judge(step: &Value, world: &mut World) -> Option<Result<(), String>> {
    let (method, path) = step["do"].as_str()?.split_once(' ')?;
    let target = target(path)?;
    let status = step["status"].as_u64()?;
    let answer = &step["answer"];
    let name = target.name.clone().or_else(|| step["body"]["metadata"]["name"].as_str().map(str::to_owned));
    let name = name.or_else(|| answer["metadata"]["name"].as_str().map(str::to_owned))?;
    let key = (format!("{}/{}", target.kind.group, target.kind.plural), name);
    let live = world.get(&key).cloned();
    if method == "DELETE" {
        world.remove(&key);
        return None;
    }
    let known = ["status", "ephemeralcontainers", "resize"];
    let right_part = target.subresource.as_deref().is_none_or(|part| known.contains(&part));
    let is_object = answer["kind"] == target.kind.kind.as_str();
    if matches!(method, "POST" | "PUT" | "PATCH") && right_part {
        if is_object && !path.contains("dryRun") {
            let mut next = answer.clone();
            next["metadata"].as_object_mut()?.remove("managedFields");
            world.insert(key, next);
        }
        if !matches!(status, 200 | 201 | 422)
            || answer["details"]["kind"].as_str().is_some_and(|k| k.ends_with("Options"))
        {
            return None;
        }
        if status != 422 && !is_object {
            return None;
        }
        if target.kind.group == "apiextensions.k8s.io"
            || live.as_ref().is_some_and(|live| live["apiVersion"] != target.kind.api_version())
        {
            return None;
        }
        // Refusals of patches and revisions are other parts' to make.
        let first = &answer["details"]["causes"][0]["field"];
        if first == "patch" || first == "metadata.resourceVersion" {
            return None;
        }
        let live = live.filter(|live| live["apiVersion"] == target.kind.api_version());
        return run(method, step, &target, live.as_ref());
    }
    if method == "GET" && is_object {
        let mut next = answer.clone();
        next["metadata"].as_object_mut()?.remove("managedFields");
        world.insert(key, next);
    }
    None
}

fn run(method: &str, step: &Value, target: &Target<'_>, live: Option<&Value>) -> Option<Result<(), String>> {
    let kind = target.kind;
    let part = target.subresource.as_deref();
    let body = &step["body"];
    let mut new = match (method, step["type"].as_str()) {
        ("PATCH", Some("apply")) => return None,
        ("PATCH", format) => patched(kind, live?, body, format)?,
        (_, Some("yaml")) => decoded(kind, Format::Yaml, body.as_str()?.as_bytes())?,
        _ => decoded(kind, Format::Json, &serde_json::to_vec(body).ok()?)?,
    };
    defaults::apply(kind, &mut new);
    decode::complete(kind, &mut new);
    let creates = method == "POST" || live.is_none();
    if part == Some("ephemeralcontainers") && method == "POST" {
        return None;
    }
    let old = live.cloned().unwrap_or_default();
    metadata(kind, &mut new, &old, target, creates);
    admission(kind, &mut new, &old, creates);
    let (faults, warnings) = if creates {
        prepare::create(kind, &mut new);
        if kind.is("batch", "Job") {
            new["metadata"]["uid"] = UID.into();
            prepare::job_identity(&mut new, UID);
        }
        (validate::create(kind, &new), validate::warnings(kind, &new, None))
    } else {
        prepare::update(kind, &mut new, &old, part);
        (validate::update(kind, &new, &old, part), validate::warnings(kind, &new, Some(&old)))
    };
    decode::complete(kind, &mut new);
    Some(compare(step, &faults, &warnings, new))
}

/// In the place of what the recording masks.
const UID: &str = "00000000-0000-0000-0000-000000000009";
const TIME: &str = "2020-01-01T00:00:00Z";

fn decoded(kind: &Kind, format: Format, body: &[u8]) -> Option<Value> {
    decode::object(&Expected::from(kind), format, body).ok().map(|decoded| decoded.object)
}

fn patched(kind: &Kind, live: &Value, patch: &Value, format: Option<&str>) -> Option<Value> {
    let mut new = live.clone();
    match format? {
        "merge" => merge::json_merge(&mut new, patch),
        "jsonpatch" => merge::json_patch(&mut new, patch).ok()?,
        "strategic" => merge::strategic(kind.ty(), &mut new, patch).ok()?,
        _ => return None,
    }
    decode::typed(kind, &mut new).ok()?;
    Some(new)
}

/// What the server knows better than the manifest.
fn metadata(kind: &Kind, new: &mut Value, old: &Value, target: &Target<'_>, creates: bool) {
    let meta = &mut new["metadata"];
    if kind.namespaced {
        meta["namespace"] = target.namespace.clone().into();
    } else if let Some(fields) = meta.as_object_mut() {
        fields.remove("namespace");
    }
    for field in ["creationTimestamp", "uid", "resourceVersion", "generation"] {
        match old["metadata"].get(field) {
            Some(value) if !creates => meta[field] = value.clone(),
            _ => {
                if creates && field != "generation" {
                    meta.as_object_mut().map(|fields| fields.remove(field));
                }
            }
        }
    }
    if creates
        && meta.get("name").is_none_or(|name| name == "")
        && let Some(prefix) = meta["generateName"].as_str()
    {
        meta["name"] = format!("{prefix}xxxxx").into();
    }
}

/// As much of admission as pods need to be valid.
fn admission(kind: &Kind, new: &mut Value, old: &Value, creates: bool) {
    if kind.is("", "Pod") && creates {
        for field in ["serviceAccountName", "serviceAccount"] {
            if new["spec"][field].is_null() {
                new["spec"][field] = "default".into();
            }
        }
    }
    if kind.is("", "Pod") && !creates {
        for field in ["priority", "preemptionPolicy"] {
            new["spec"][field] = old["spec"][field].clone();
        }
    }
    if kind.is("", "Service") && new["spec"]["type"] != "ExternalName" {
        let before = (!creates).then_some(&old["spec"]);
        let _refused = families::settle(&mut new["spec"], before, &[families::IPV4]);
    }
}

/// What is left out of a comparison, for all kinds.
const SERVERS: &[&str] = &[
    "/metadata/managedFields",
    "/metadata/resourceVersion",
    "/metadata/uid",
    "/metadata/creationTimestamp",
    "/metadata/name",
    "/metadata/selfLink",
    "/metadata/deletionTimestamp",
    "/metadata/finalizers",
    "/metadata/deletionGracePeriodSeconds",
    "/metadata/ownerReferences",
    "/spec/clusterIP",
    "/spec/clusterIPs",
    "/spec/tolerations",
    "/spec/priority",
    "/spec/preemptionPolicy",
    "/status/lastPhaseTransitionTime",
    "/spec/storageClassName",
    "/spec/taints",
    "/spec/imagePullSecrets",
];

fn compare(step: &Value, faults: &[sluice_schema::Fault], warnings: &[String], new: Value) -> Result<(), String> {
    let status = step["status"].as_u64().unwrap_or_default();
    let mut difference = String::new();
    if status == 422 {
        let causes = step["answer"]["details"]["causes"].as_array().cloned().unwrap_or_default();
        let line = |cause: &Value| {
            format!(
                "{}|{}|{}",
                cause["reason"].as_str().unwrap_or(""),
                cause["field"].as_str().unwrap_or(""),
                cause["message"].as_str().unwrap_or("")
            )
        };
        let wanted: Vec<String> = causes.iter().map(line).collect();
        let found: Vec<String> =
            faults.iter().map(|f| format!("{}|{}|{}", f.kind.reason(), f.field(), f.message())).collect();
        if wanted != found {
            for line in &wanted {
                difference.push_str(&format!("    want {line}\n"));
            }
            for line in &found {
                difference.push_str(&format!("    got  {line}\n"));
            }
        }
    } else if !faults.is_empty() {
        for fault in faults {
            difference.push_str(&format!("    unwanted fault {}\n", fault.line()));
        }
    } else {
        let (mut want, mut got) = (step["answer"].clone(), new);
        for side in [&mut want, &mut got] {
            SERVERS.iter().for_each(|pointer| drop_pointer(side, pointer));
            without_allocations(side);
        }
        differences(&want, &got, "", &mut difference);
    }
    if status == 422 {
        return if difference.is_empty() { Ok(()) } else { Err(difference) };
    }
    let wanted = step["warnings"].as_array().cloned().unwrap_or_default();
    let mut wanted: Vec<String> = wanted.iter().filter_map(Value::as_str).filter_map(warning_text).collect();
    let mut found = warnings.to_vec();
    wanted.sort();
    found.sort();
    if wanted != found {
        difference.push_str(&format!("    warnings want {wanted:?}\n    warnings got  {found:?}\n"));
    }
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

/// The text inside `299 - "..."`; nothing for those that other parts give.
fn warning_text(header: &str) -> Option<String> {
    let text = header.strip_prefix("299 - \"")?.strip_suffix('"')?.replace("\\\"", "\"");
    let elsewhere =
        ["unknown field", "duplicate field", "already set in map", "Endpoints is deprecated", "ComponentStatus is"];
    (!elsewhere.iter().any(|part| text.contains(part))).then_some(text)
}

fn drop_pointer(value: &mut Value, pointer: &str) {
    if let Some((parent, last)) = pointer.rsplit_once('/')
        && let Some(Value::Object(map)) = value.pointer_mut(parent)
    {
        map.remove(last);
    }
}

/// Token volumes and node ports.
fn without_allocations(object: &mut Value) {
    let token = |value: &Value| value["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    fn each(value: &mut Value, list: &str, drop: impl Fn(&Value) -> bool + Copy) {
        if let Some(Value::Array(items)) = value.get_mut(list) {
            items.retain(|item| !drop(item));
            if items.is_empty() {
                value.as_object_mut().map(|map| map.remove(list));
            }
        }
    }
    if let Some(spec) = object.get_mut("spec") {
        each(spec, "volumes", token);
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                each(container, "volumeMounts", token);
            }
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
        spec.as_object_mut().map(|spec| spec.remove("healthCheckNodePort"));
    }
}

fn differences(want: &Value, got: &Value, path: &str, out: &mut String) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, value) in want {
                match got.get(key) {
                    Some(other) => differences(value, other, &format!("{path}/{key}"), out),
                    None => out.push_str(&format!("    {path}/{key} want {value} got nothing\n")),
                }
            }
            for (key, value) in got.iter().filter(|(key, _)| !want.contains_key(*key)) {
                out.push_str(&format!("    {path}/{key} unwanted {value}\n"));
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (index, (want, got)) in want.iter().zip(got).enumerate() {
                differences(want, got, &format!("{path}/{index}"), out);
            }
        }
        (want, got) if want == got || masked(want) => {}
        (want, got) => out.push_str(&format!("    {path} want {want} got {got}\n")),
    }
}

/// What the recording does not show.
fn masked(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("<port>") || text == TIME || text == "<rv>")
}

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rules");

/// Every step of the scenarios kept here comes out as recorded. How many there are is pinned, so that none gets lost.
fn check(area: &str, steps: usize) {
    let score = score(&Path::new(DATA).join(area));
    assert_eq!(score.exact, score.judged, "{}", score.report);
    assert_eq!(score.judged, steps);
}

#[test]
fn defaults_are_those_of_the_real_server() {
    check("defaults", 330);
}

#[test]
fn wrong_input_is_refused_in_the_words_of_the_real_server() {
    check("validation", 582);
}

#[test]
fn changes_touch_what_they_may() {
    check("changes", 109);
}

/// With `SLUICE_RECORDED` set, the whole recording is judged: no step may be lost that came out right before.
#[test]
fn the_whole_recording_keeps_its_score() {
    let Ok(root) = std::env::var("SLUICE_RECORDED") else { return };
    for (area, least) in [("defaults", 419), ("validation", 724), ("changes", 473)] {
        let score = score(&Path::new(&root).join(area));
        println!("{}== {area}: {} of {}", score.report, score.exact, score.judged);
        assert!(score.exact >= least, "{area}: {} of {} steps, {least} before", score.exact, score.judged);
    }
}
