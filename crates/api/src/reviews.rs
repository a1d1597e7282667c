//! Kinds that are questions: answered at once, never stored.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_schema::Kind;

use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::render;
use crate::request::BodyFormat;
use crate::rules;

pub(crate) fn answers(kind: &Kind) -> bool {
    matches!(kind.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
}

pub(crate) fn create(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = call.kind();
    let format = BodyFormat::of(call.content_type.as_deref(), kind)?;
    let mut review = rules::decode(kind, format, &call.body)?.object;
    let status = answer(call, &mut review);
    review["status"] = status;
    render::object(call, StatusCode::CREATED, review)
}

fn answer(call: &Call, review: &mut Value) -> Value {
    match call.kind().kind.as_str() {
        "SelfSubjectReview" => {
            review["metadata"] = json!({"creationTimestamp": random::now()});
            json!({"userInfo": call.user.to_json()})
        }
        "TokenReview" => match call.server.inner.tokens.identity(review.text("/spec/token")) {
            Some(user) => json!({"authenticated": true, "user": user.to_json()}),
            None => json!({"user": {}, "error": "invalid bearer token"}),
        },
        "SelfSubjectRulesReview" => {
            review["spec"] = json!({});
            review["metadata"] = json!({});
            json!({"incomplete": false,
                   "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                   "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
        }
        // In this release everybody who is known may do everything.
        "SelfSubjectAccessReview" => json!({"allowed": call.user.is_authenticated()}),
        _ => json!({"allowed": review.text("/spec/user") != crate::identity::ANONYMOUS}),
    }
}
