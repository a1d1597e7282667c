//! Streams into pods: checked here, carried by `streams`.

use http::Response;
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::streams::{self, SessionOptions};

/// Ports that one connection of the old form may name: each has two channels, and a channel's number is a byte.
const MAX_PORTS: usize = 64;

/// `exec`, `attach`, `portforward`.
pub(super) fn stream(call: &Call, what: &str) -> Result<Response<Body>, Refusal> {
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let pod = entry.to_value();
    let container = match what {
        "portforward" => String::new(),
        _ => container(&pod, call.query.text("container"), |_| None)?,
    };
    if pod.text("/spec/nodeName").is_empty() {
        return Err(Refusal::bad(format!("pod {} does not have a host assigned", call.name())));
    }
    let upgrade = call.upgrade.as_ref().ok_or_else(|| Refusal::bad("Upgrade request required"))?;
    if what == "portforward" {
        return Ok(streams::ports(call, upgrade, pod, ports(call)?));
    }
    let options = session(call, container, what == "exec")?;
    Ok(streams::command(call, upgrade, pod, options))
}

fn session(call: &Call, container: String, exec: bool) -> Result<SessionOptions, Refusal> {
    let query = &call.query;
    let (stdin, stdout, tty) = (query.flag("stdin"), query.flag("stdout"), query.flag("tty"));
    // A terminal has one output.
    let stderr = query.flag("stderr") && !tty;
    if !stdin && !stdout && !stderr {
        return Err(Refusal::bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let words: Vec<String> = query.all("command").map(str::to_owned).collect();
    if exec && words.is_empty() {
        return Err(Refusal::bad("you must specify at least one command for the container"));
    }
    Ok(SessionOptions { container, command: exec.then_some(words), stdin, stdout, stderr, tty })
}

/// The ports of the old form.
fn ports(call: &Call) -> Result<Vec<u16>, Refusal> {
    let words = call.query.all("ports").flat_map(|text| text.split(','));
    let read = |word: &str| {
        let port: Option<u16> = word.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| Refusal::bad(format!("unable to parse {word:?} as a port")))
    };
    let ports = words.map(read).collect::<Result<Vec<u16>, Refusal>>()?;
    match ports.len() {
        0..=MAX_PORTS => Ok(ports),
        more => Err(Refusal::bad(format!("{more} ports are more than the {MAX_PORTS} that one connection may have"))),
    }
}

/// `proxy` of pods, services and nodes.
pub(super) fn proxy(call: &Call) -> Result<Response<Body>, Refusal> {
    if call.server.storage().get(&call.key()).is_none() {
        return Err(Refusal::not_found(call.kind(), call.name()));
    }
    Err(Refusal::bad("address not allowed"))
}

/// The container that is meant: the one named, the default one, or the only one.
pub(super) fn container(
    pod: &Value,
    asked: Option<&str>,
    default: impl Fn(&Value) -> Option<String>,
) -> Result<String, Refusal> {
    let names = |field: &str| -> Vec<&str> {
        pod["spec"][field].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let containers = names("containers");
    let all = || [containers.clone(), names("initContainers"), names("ephemeralContainers")].concat();
    let chosen = asked.map(str::to_owned).or_else(|| default(pod).filter(|name| !name.is_empty()));
    match (chosen, containers.as_slice()) {
        (Some(name), _) if all().contains(&name.as_str()) => Ok(name),
        (Some(name), _) => Err(Refusal::bad(format!("container {name} is not valid for pod {}", pod.name()))),
        (None, [only]) if all().len() == 1 => Ok((*only).to_owned()),
        (None, _) => {
            let mut hint = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                containers.join(" ")
            );
            for (title, field) in
                [("init containers", "initContainers"), ("ephemeral containers", "ephemeralContainers")]
            {
                if !names(field).is_empty() {
                    hint.push_str(&format!(" or one of the {title}: [{}]", names(field).join(" ")));
                }
            }
            Err(Refusal::bad(hint))
        }
    }
}
