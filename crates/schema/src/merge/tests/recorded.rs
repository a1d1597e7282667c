//! Patches that a real API server was sent, and what it made of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::Catalog;
use crate::merge::{PatchError, json_merge, json_patch, strategic};
use crate::recorded::{Request, lacks, scenario, scenarios};

/// Steps whose answer shows more than the patch: typed decoding has dropped unknown fields, `stringData` has become data,
/// or the recording left out the `managedFields` that the patch tests.
const BEYOND: [(&str, usize); 5] = [
    ("json-patch-deployment", 11),
    ("json-patch-errors", 16),
    ("smp-configmap-secret", 12),
    ("smp-serviceaccount", 4),
    ("smp-serviceaccount", 5),
];

/// Replays the patches of one scenario; returns how many were judged, and what differs.
fn replay(file: &Path) -> (usize, Vec<String>) {
    let scenario = scenario(file);
    let mut live: BTreeMap<String, Value> = BTreeMap::new();
    let (mut judged, mut differences) = (0, Vec::new());
    for (index, step) in scenario["steps"].as_array().into_iter().flatten().enumerate() {
        let request = Request::parse(step);
        let answer = &step["answer"];
        let good = step["status"].as_u64().is_some_and(|code| code < 300);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        if request.method == "PATCH"
            && !BEYOND.contains(&(&name, index))
            && request.subresource.is_none()
            && let (Some(object), Some(body)) = (live.get(&request.path), request.body())
            && let Some(difference) = patch(object, &body, step)
        {
            judged += 1;
            differences.extend(difference.map(|how| format!("{name} {index}: {how}")));
        }
        if good && answer["metadata"].is_object() && !request.query.contains_key("dryRun") {
            let path = match request.method {
                "POST" => format!("{}/{}", request.path, answer["metadata"]["name"].as_str().unwrap_or_default()),
                _ => request.path.clone(),
            };
            live.insert(path, answer.clone());
        }
    }
    (judged, differences)
}

/// Nothing where the answer says nothing about the patch itself; else what differs.
fn patch(live: &Value, body: &Value, step: &Value) -> Option<Option<String>> {
    let mut new = live.clone();
    let outcome = match step["type"].as_str()? {
        "merge" => {
            json_merge(&mut new, body);
            Ok(())
        }
        "jsonpatch" => json_patch(&mut new, body),
        "strategic" => strategic(kind(live)?, &mut new, body),
        _ => return None,
    };
    let answer = &step["answer"];
    match (outcome, step["status"].as_u64()?) {
        (Ok(()), 200) => Some(lacks(&new, answer, "")),
        (Err(error), 200) => Some(Some(format!("refused: {error}"))),
        (Err(error), code) => {
            let told = (u64::from(error.code()), error.to_string(), error.reason());
            let expected = (code, answer["message"].as_str()?.to_owned(), answer["reason"].as_str());
            Some((told != expected).then(|| format!("says {told:?}, not {expected:?}")))
        }
        // Whatever is refused with these words is refused by the patch.
        (Ok(()), 500) => Some(Some(format!("accepted, expected {}", answer["message"]))),
        (Ok(()), 422) if answer["details"] == serde_json::json!({}) => Some(Some("accepted".to_owned())),
        (Ok(()), _) => None,
    }
}

fn kind(object: &Value) -> Option<crate::Ty<'static>> {
    let api_version = object["apiVersion"].as_str()?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    Catalog::builtin().kind(group, version, object["kind"].as_str()?).map(|kind| kind.ty())
}

#[test]
fn recorded_patches_have_the_recorded_results() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/changes");
    let (mut judged, mut all) = (0, Vec::new());
    for file in scenarios(&ours) {
        let (steps, differences) = replay(&file);
        judged += steps;
        all.extend(differences);
    }
    assert!(judged > 100 && all.is_empty(), "{} of {judged} patches\n{}", all.len(), all.join("\n"));
}

#[test]
fn errors_know_their_status() {
    let rejected = PatchError::Rejected { why: "no key".into() };
    assert_eq!((rejected.code(), rejected.reason()), (422, Some("Invalid")));
    assert_eq!(PatchError::Internal(String::new()).reason(), None);
}
