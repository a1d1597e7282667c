//! Probes and life-cycle hooks.

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::names;

pub(super) fn lifecycle(f: &mut Faults, at: &At<'_>, grace: i64) {
    for hook in ["postStart", "preStop"].map(|name| at.get(name)) {
        if hook.is_set() {
            handler(f, &hook, grace);
        }
    }
}

pub(super) fn of_container(f: &mut Faults, container: &At<'_>, grace: i64) {
    for (name, readiness) in [("livenessProbe", false), ("readinessProbe", true), ("startupProbe", false)] {
        let at = container.get(name);
        if !at.is_set() {
            continue;
        }
        probe(f, &at, grace);
        if readiness {
            let grace = at.get("terminationGracePeriodSeconds");
            if grace.is_set() {
                f.invalid(&grace, "must not be set for readinessProbes");
            }
        } else if at.get("successThreshold").int_or(1) != 1 {
            f.invalid(&at.get("successThreshold"), "must be 1");
        }
    }
}

fn probe(f: &mut Faults, at: &At<'_>, grace: i64) {
    handler(f, at, grace);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        f.not_negative(&at.get(field));
    }
    let own_grace = at.get("terminationGracePeriodSeconds");
    if own_grace.int().is_some_and(|seconds| seconds <= 0) {
        f.invalid(&own_grace, "must be greater than 0");
    }
}

/// Exactly one way to act.
fn handler(f: &mut Faults, at: &At<'_>, grace: i64) {
    let mut found = false;
    for (name, check) in HANDLERS {
        let handler = at.get(name);
        if !handler.is_set() {
            continue;
        }
        if found {
            f.forbidden(&handler, "may not specify more than 1 handler type");
        } else {
            found = true;
            check(f, &handler, grace);
        }
    }
    if !found {
        f.required(at, "must specify a handler type");
    }
}

type Handler = fn(&mut Faults, &At<'_>, i64);

const HANDLERS: &[(&str, Handler)] = &[
    ("exec", |f, at, _| {
        f.present(&at.get("command"));
    }),
    ("httpGet", |f, at, _| http_get(f, at)),
    ("tcpSocket", |f, at, _| f.port_or_name(&at.get("port"))),
    ("grpc", |f, at, _| f.port(&at.get("port"))),
    ("sleep", sleep),
];

fn http_get(f: &mut Faults, at: &At<'_>) {
    f.present(&at.get("path"));
    f.port_or_name(&at.get("port"));
    f.one_of(&at.get("scheme"), &["HTTP", "HTTPS"]);
    let headers = at.get("httpHeaders");
    for header in headers.items() {
        f.problems(&headers, header.text("name"), names::http_header(header.text("name")));
    }
}

fn sleep(f: &mut Faults, at: &At<'_>, grace: i64) {
    let seconds = at.get("seconds").int_or(0);
    if seconds < 0 || seconds > grace {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        f.invalid_value(at, seconds, detail);
    }
}
