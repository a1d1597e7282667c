//! Kinds that are questions: answered at once, never stored.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_schema::{Fault, Kind};

use crate::body::Body;
use crate::call::Call;
use crate::identity::ANONYMOUS;
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::render;
use crate::request::{BodyFormat, WriteOptions};
use crate::rules;
use crate::tokens::{self, ISSUER};
use crate::verbs::judge_fields;

pub(crate) fn answers(kind: &Kind) -> bool {
    matches!(kind.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
}

pub(crate) fn create(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = BodyFormat::of(call.content_type.as_deref(), kind)?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "CreateOptions")?;
    let mut decoded = rules::decode(kind, format, &call.body)?;
    judge_fields(call, kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let mut review = decoded.object;
    rules::track_create(call, &mut review, &options.manager);
    answer(call, &mut review)?;
    Ok(render::value(call.accept.encoding, StatusCode::CREATED, &review))
}

fn answer(call: &Call, review: &mut Value) -> Result<(), Refusal> {
    match call.kind().kind.as_str() {
        "SelfSubjectReview" => {
            review["metadata"] = json!({"creationTimestamp": random::now()});
            review["status"] = json!({"userInfo": call.user.to_json()});
        }
        "TokenReview" => review_token(call, review)?,
        "SelfSubjectRulesReview" => {
            if review.text("/spec/namespace").is_empty() {
                return Err(Refusal::bad("no namespace on request"));
            }
            review["spec"] = json!({});
            review["metadata"] = json!({});
            review["status"] = json!({"incomplete": false,
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
        }
        _ => review_access(call, review)?,
    }
    Ok(())
}

fn review_token(call: &Call, review: &mut Value) -> Result<(), Refusal> {
    let token = review.text("/spec/token").to_owned();
    if token.is_empty() {
        return Err(Refusal::bad("token is required for TokenReview in authentication"));
    }
    let asked = review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut audiences: Vec<String> = asked.map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    review["status"] = match tokens::check(&call.server, &token, &audiences) {
        Ok(known) => json!({"authenticated": true, "user": known.user.to_json(), "audiences": known.audiences}),
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    };
    Ok(())
}

/// In this release everybody who is known may do everything.
fn review_access(call: &Call, review: &mut Value) -> Result<(), Refusal> {
    let kind = call.kind();
    let faults = access_faults(call, review);
    if !faults.is_empty() {
        // The real server names no kind here.
        return Err(Refusal::Invalid { group: kind.group.clone(), kind: String::new(), name: String::new(), faults });
    }
    let allowed = match kind.kind.as_str() {
        "SelfSubjectAccessReview" => call.user.is_authenticated(),
        _ => review.text("/spec/user") != ANONYMOUS,
    };
    review["status"] = json!({"allowed": allowed});
    Ok(())
}

fn access_faults(call: &Call, review: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let spec = &review["spec"];
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let shown = |value: &Value| json!({"Path": value.text("/path"), "Verb": value.text("/verb")});
    let kind = call.kind().kind.as_str();
    let local = kind == "LocalSubjectAccessReview";
    if local && !other.is_null() {
        let detail = "disallowed on this kind of request";
        return vec![Fault::invalid("spec.nonResourceAttributes", shown(other), detail)];
    }
    if !resource.is_null() && !other.is_null() {
        let detail = "cannot be specified in combination with resourceAttributes";
        faults.push(Fault::invalid("spec.nonResourceAttributes", shown(other), detail));
    }
    if resource.is_null() && other.is_null() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        faults.push(Fault::invalid("spec.resourceAttributes", Value::Null, detail));
    }
    let nobody = spec.text("/user").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if kind != "SelfSubjectAccessReview" && nobody {
        faults.push(Fault::invalid("spec.user", "", "at least one of user or group must be specified"));
    }
    if local && !resource.is_null() && resource.text("/namespace") != call.namespace() {
        let detail = "must match metadata.namespace";
        faults.push(Fault::invalid("spec.resourceAttributes.namespace", resource.text("/namespace"), detail));
    }
    let mut metadata = review["metadata"].clone();
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("managedFields");
        fields.retain(|field, _| !(local && field == "namespace"));
    }
    if metadata.as_object().is_some_and(|fields| !fields.is_empty()) {
        faults.push(Fault::invalid("metadata", review["metadata"].clone(), "must be empty"));
    }
    faults
}
