//! Streams into pods: checked as far as the API knows; the streams themselves come with the node.

use http::Response;
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;

/// `exec`, `attach`, `portforward`.
pub(super) fn stream(call: &Call, what: &str) -> Result<Response<Body>, Refusal> {
    let entry = call.server.storage().get(&call.key()).ok_or_else(|| Refusal::not_found(call.kind(), call.name()))?;
    let pod = entry.value();
    if what != "portforward" {
        container(&pod, call.query.text("container"), |_| None)?;
    }
    if pod.text("/spec/nodeName").is_empty() {
        return Err(Refusal::bad(format!("pod {} does not have a host assigned", call.name())));
    }
    Err(Refusal::NotImplemented(format!("{what} is not served in this release")))
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
