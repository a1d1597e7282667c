//! Admission webhooks and policies, flow control, certificate requests.

use super::check::Faults;
use super::cursor::At;
use super::names;
use crate::fault::Fault;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

pub(crate) fn configuration(f: &mut Faults, object: &At<'_>) {
    for hook in object.get("webhooks").items() {
        webhook(f, &hook);
    }
}

fn webhook(f: &mut Faults, hook: &At<'_>) {
    let name = hook.get("name");
    if f.present(&name) {
        let problems = names::subdomain(name.str());
        if problems.is_empty() && name.str().split('.').count() < 3 {
            f.invalid(&name, "should be a domain with at least three segments separated by dots");
        }
        f.problems(&name, name.str(), problems);
    }
    for rule in hook.get("rules").items() {
        admission_rule(f, &rule);
    }
    f.optional_one_of(&hook.get("failurePolicy"), &["Fail", "Ignore"]);
    f.optional_one_of(&hook.get("matchPolicy"), &["Equivalent", "Exact"]);
    let effects = hook.get("sideEffects");
    if effects.is_set() {
        f.one_of(&effects, &["None", "NoneOnDryRun"]);
    } else {
        f.required(&effects, "must specify one of None, NoneOnDryRun");
    }
    let timeout = hook.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        f.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    for selector in ["namespaceSelector", "objectSelector"].map(|name| hook.get(name)) {
        super::selector::label_selector(f, &selector);
    }
    client(f, &hook.get("clientConfig"));
    let versions = hook.get("admissionReviewVersions");
    if versions.is_zero() {
        f.required(&versions, "must specify one of v1, v1beta1");
    } else if !versions.list().iter().any(|version| version == "v1" || version == "v1beta1") {
        f.invalid(&versions, "must include at least one of v1, v1beta1");
    }
}

fn client(f: &mut Faults, at: &At<'_>) {
    let (url, service) = (at.get("url"), at.get("service"));
    if url.is_set() == service.is_set() {
        f.required(at, "exactly one of url or service is required");
    } else if url.is_set() {
        webhook_url(f, &url);
    } else {
        f.present(&service.get("name"));
        f.present(&service.get("namespace"));
    }
}

const URL_FORM: &str = "; desired format: https://host[/path]";

fn webhook_url(f: &mut Faults, at: &At<'_>) {
    let (scheme, rest) = at.str().split_once("://").unwrap_or(("", at.str()));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    if scheme != "https" {
        f.invalid_value(at, scheme, format!("'https' is the only allowed URL scheme{URL_FORM}"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() {
        f.invalid_value(at, host, format!("host must be specified{URL_FORM}"));
    }
    if host.contains('@') {
        f.invalid_value(at, host.split('@').next().unwrap_or_default(), "user information is not permitted in the URL");
    }
    if let Some(query) = query {
        f.invalid_value(at, query, "query parameters are not permitted in the URL");
    }
}

fn admission_rule(f: &mut Faults, rule: &At<'_>) {
    let operations = rule.get("operations");
    if operations.is_zero() {
        f.required(&operations, "");
    }
    if has_star_and_more(&operations) {
        f.invalid(&operations, "if '*' is present, must not specify other operations");
    }
    for operation in operations.items() {
        f.one_of(&operation, OPERATIONS);
    }
    for field in ["apiGroups", "apiVersions", "resources"].map(|name| rule.get(name)) {
        let name = field.path();
        if field.is_zero() {
            f.required(&field, "");
        } else if !name.ends_with("resources") && has_star_and_more(&field) {
            f.invalid(&field, format!("if '*' is present, must not specify other {}", plural_of(&name)));
        }
    }
    let resources = rule.get("resources");
    if has_star_and_more(&resources)
        && resources.list().iter().any(|name| name != "*" && !name.as_str().is_some_and(|n| n.contains('/')))
    {
        f.invalid(&resources, "if '*' is present, must not specify other resources without subresources");
    }
    f.optional_one_of(&rule.get("scope"), &["*", "Cluster", "Namespaced"]);
}

fn plural_of(path: &str) -> &'static str {
    if path.ends_with("apiGroups") { "API groups" } else { "API versions" }
}

fn has_star_and_more(at: &At<'_>) -> bool {
    at.list().len() > 1 && at.list().iter().any(|item| item == "*")
}

pub(crate) fn policy(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.optional_one_of(&spec.get("failurePolicy"), &["Fail", "Ignore"]);
    let conditions = spec.get("matchConditions");
    let mut seen = std::collections::BTreeSet::new();
    for condition in conditions.items() {
        let name = condition.get("name");
        if !seen.insert(name.str()) {
            f.duplicate(&name);
        }
    }
    if !spec.has("matchConstraints") {
        f.required(&spec.get("matchConstraints"), "");
    }
    let (validations, audits) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_zero() && audits.is_zero() {
        for field in [&validations, &audits] {
            f.required(field, "validations or auditAnnotations must contain at least one item");
        }
    }
    for variable in spec.get("variables").items() {
        let name = variable.get("name");
        let fine = name.str().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.str().chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fine {
            f.invalid(&name, "must be a valid CEL identifier");
        }
    }
    for validation in validations.items() {
        if validation.text("expression").trim().is_empty() {
            f.required(&validation.get("expression"), "expression is not specified");
        }
        f.optional_one_of(&validation.get("reason"), &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

pub(crate) fn policy_binding(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.present(&spec.get("policyName"));
    let actions = spec.get("validationActions");
    if actions.is_zero() {
        f.required(&actions, "at least one validation action is required");
    }
    for action in actions.items() {
        f.one_of(&action, &["Audit", "Deny", "Warn"]);
    }
    let has = |name: &str| actions.list().iter().any(|action| action == name);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        f.invalid(&actions, detail);
    }
}

const PRECEDENCE_MAX: i64 = 10_000;

pub(crate) fn flow_schema(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let precedence = spec.get("matchingPrecedence");
    if precedence.int_or(0) <= 0 {
        f.invalid(&precedence, "must be a positive value");
    }
    if precedence.int_or(0) > PRECEDENCE_MAX {
        f.invalid(&precedence, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    let level = spec.dig(&["priorityLevelConfiguration", "name"]);
    if level.is_zero() {
        f.required(&level, "must reference a priority level");
    } else {
        f.format(&level, names::subdomain);
    }
    for rule in spec.get("rules").items() {
        if rule.get("subjects").is_zero() {
            f.required(&rule.get("subjects"), "subjects must contain at least one value");
        }
        if rule.get("resourceRules").is_zero() && rule.get("nonResourceRules").is_zero() {
            f.required(&rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
    }
}

pub(crate) fn priority_level(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let kind = spec.get("type");
    let exempt = object.get("metadata").text("name") == "exempt";
    if (kind.str() == "Exempt") != exempt {
        f.invalid(&kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let limited = spec.get("limited");
    match kind.str() {
        "Exempt" if limited.is_set() => f.forbidden(&limited, "must be nil if the type is not Limited"),
        "Exempt" => {}
        "Limited" if !limited.is_set() => f.required(&limited, "must not be empty when type is Limited"),
        "Limited" => limit_response(f, &limited.get("limitResponse")),
        _ => f.one_of(&kind, &["Exempt", "Limited"]),
    }
}

fn limit_response(f: &mut Faults, at: &At<'_>) {
    let queuing = at.get("queuing");
    match at.text("type") {
        "Queue" if !queuing.is_set() => {
            f.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Reject" if queuing.is_set() => {
            f.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Queue" | "Reject" => {}
        _ => f.one_of(&at.get("type"), &["Queue", "Reject"]),
    }
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) fn certificate_request(f: &mut Faults, object: &At<'_>) {
    use base64::Engine;
    let spec = object.get("spec");
    let request = spec.get("request");
    let bytes = base64::engine::general_purpose::STANDARD.decode(request.str()).unwrap_or_default();
    if !bytes.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        f.add(Fault::invalid(request.path(), request.str(), "PEM block type must be CERTIFICATE REQUEST"));
    }
    let usages = spec.get("usages");
    if usages.is_zero() {
        f.required(&usages, "");
    }
    for usage in usages.items() {
        f.one_of(&usage, USAGES);
    }
    let signer = spec.get("signerName");
    let (domain, path) = signer.str().split_once('/').unwrap_or((signer.str(), ""));
    if path.is_empty() || !domain.contains('.') {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        f.invalid(&signer, detail);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < 600) {
        f.invalid(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}
