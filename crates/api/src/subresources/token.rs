//! `serviceaccounts/token`: a token for whoever runs as the account.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use sluice_schema::Fault;

use crate::body::Body;
use crate::builtin;
use crate::call::Call;
use crate::object::Object;
use crate::random;
use crate::refusal::{Named, Refusal};
use crate::render;
use crate::request::{BodyFormat, WriteOptions};
use crate::rules;
use crate::tokens::{Grant, ISSUER};
use crate::verbs::judge_fields;

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

pub(super) fn request(call: &Call) -> Result<Response<Body>, Refusal> {
    let kind = builtin::body("authentication.k8s.io", "v1", "TokenRequest");
    let format = BodyFormat::of(call.content_type.as_deref(), &kind)?;
    let options = WriteOptions::parse(&call.query, &call.user_agent, "CreateOptions")?;
    let mut decoded = rules::decode(&kind, format, &call.body)?;
    judge_fields(call, &kind, options.validation, std::mem::take(&mut decoded.notices))?;
    let mut request = decoded.object;
    let own = request.text("/metadata/namespace");
    if !own.is_empty() && own != call.namespace() {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad(why));
    }
    if request["spec"]["expirationSeconds"].is_null() {
        request["spec"]["expirationSeconds"] = json!(DEFAULT_SECONDS);
    }
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let account = entry.value();
    check(call, &kind, &request)?;
    let bound = bound(call, &request["spec"]["boundObjectRef"])?;
    rules::with_writer(call, &kind, &options.manager, Some("token"), |writer| {
        sluice_schema::managed::update(writer, None, &mut request);
    });
    Ok(issue(call, &kind, request, &account, bound.as_ref()))
}

fn issue(
    call: &Call,
    kind: &sluice_schema::Kind,
    mut request: Value,
    account: &Value,
    bound: Option<&(String, Value)>,
) -> Response<Body> {
    let asked = request["spec"]["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut audiences: Vec<String> = asked.map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let (token, end) = call.server.inner.tokens.sign(&Grant {
        namespace: call.namespace(),
        account,
        audiences: &audiences,
        seconds: request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS),
        bound: bound.map(|(kind, object)| (kind.as_str(), object)),
    });
    request["kind"] = json!(kind.kind);
    request["apiVersion"] = json!(kind.api_version());
    for (field, value) in [
        ("name", json!(account.name())),
        ("namespace", json!(call.namespace())),
        ("uid", json!(account.uid())),
        ("creationTimestamp", json!(random::now())),
    ] {
        request.set_meta(field, value);
    }
    request["spec"]["audiences"] = json!(audiences);
    if request["spec"].get("boundObjectRef").is_none() {
        request["spec"]["boundObjectRef"] = Value::Null;
    }
    request["status"] = json!({"token": token, "expirationTimestamp": random::at(end)});
    render::value(call.accept.encoding, StatusCode::CREATED, &request)
}

fn check(call: &Call, kind: &sluice_schema::Kind, request: &Value) -> Result<(), Refusal> {
    let own = request.name();
    if !own.is_empty() && own != call.name() {
        let fault = Fault::invalid("metadata.name", own, "must match the service account name if specified");
        return Err(Refusal::invalid(kind, call.name(), vec![fault]));
    }
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let detail = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        LEAST_SECONDS..=MOST_SECONDS => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Err(Refusal::invalid(kind, "", vec![Fault::invalid("spec.expirationSeconds", seconds, detail)]))
}

/// The object that the token shall end with, and its kind in lower case.
fn bound(call: &Call, reference: &Value) -> Result<Option<(String, Value)>, Refusal> {
    if reference.is_null() {
        return Ok(None);
    }
    let (version, kind) = (reference.text("/apiVersion"), reference.text("/kind"));
    let plural = match (version, kind) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        _ => {
            let group_version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
            return Err(Refusal::bad(format!("cannot bind token to object of type {group_version}, Kind={kind}")));
        }
    };
    let kinds = call.server.registry().kinds();
    let found = kinds.find("", "v1", plural).expect("what tokens are bound to is built in");
    let name = reference.text("/name");
    let entry = call.server.storage().get_by(&found, call.namespace(), name);
    let object = entry.ok_or_else(|| Refusal::not_found(&found, name))?.to_value();
    if kind == "Pod" && object.text("/spec/serviceAccountName") != call.name() {
        return Err(Refusal::bad(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.name()
        )));
    }
    let uid = reference.text("/uid");
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Refusal::Conflict { named: Named::by_kind(&found, name), why });
    }
    Ok(Some((kind.to_ascii_lowercase(), object)))
}
