//! Where a probe goes: ports by number or name, hosts by address or name.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::util::intstr::IntOrString};

/// A port by number, or by the name that the container gives it.
pub(in crate::agent) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let (number, text) = match port {
        IntOrString::Int(number) => (Some(*number), number.to_string()),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            (named.map(|port| port.container_port).or_else(|| name.parse().ok()), format!("\"{name}\""))
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("couldn't find port {text} in container {}", container.name))
}

pub(super) async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::from((ip, port)));
    }
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("lookup {host}: {error}"))?;
    found.next().ok_or_else(|| format!("lookup {host}: no address"))
}

/// As Go says it.
pub(super) fn refused(address: SocketAddr, error: &std::io::Error) -> String {
    format!("dial tcp {address}: connect: {}", error.to_string().split(" (").next().unwrap_or_default().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_go_by_number_or_name() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "web", "ports": [{"name": "http", "containerPort": 8081}],
        }))
        .expect("a container");
        let find = |text: &str| port(&container, &IntOrString::String(text.to_owned()));
        assert_eq!(find("http"), Ok(8081));
        assert_eq!(find("99"), Ok(99));
        assert_eq!(find("grpc"), Err("couldn't find port \"grpc\" in container web".to_owned()));
        assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
        for wrong in [0, -1, 70_000] {
            assert!(port(&container, &IntOrString::Int(wrong)).is_err(), "{wrong}");
        }
    }
}
