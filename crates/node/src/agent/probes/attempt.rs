//! One probe: a command, an HTTP GET, a TCP connection or a gRPC health check, within its time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Probe, TCPSocketAction};
use sluice_pod::wire::ExecOutcome;

use super::{
    Outcome, grpc, http,
    target::{port, refused, resolve},
};
use crate::agent::link::Link;

/// What a probe is aimed at.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) container: Container,
    pub(super) pod_ip: Ipv4Addr,
    pub(super) link: Link,
}

pub(super) async fn attempt(probe: &Probe, target: &Target) -> Outcome {
    let limit = timeout(probe);
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return judge_exec(target.link.exec(&target.container.name, &command, limit).await, &command, limit);
    }
    let connect = connect(probe, &target.container, target.pod_ip, limit);
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => Outcome::Bad(why),
        Err(_) => Outcome::Bad(too_late(probe, &target.container, target.pod_ip, limit)),
    }
}

pub(super) fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(u64::from(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs()))
}

fn judge_exec(outcome: ExecOutcome, command: &[String], limit: Duration) -> Outcome {
    match outcome {
        ExecOutcome::Exited { code: 0, .. } => Outcome::Good,
        ExecOutcome::Exited { output, .. } => Outcome::Bad(output),
        ExecOutcome::TimedOut => {
            let command = command.join(" ");
            Outcome::Bad(format!("command timed out: \"{command}\" timed out after {}s", limit.as_secs()))
        }
        ExecOutcome::Failed(why) if why.contains("cannot start") => Outcome::Bad(why),
        ExecOutcome::Failed(_) => Outcome::Unknown,
    }
}

async fn connect(probe: &Probe, container: &Container, pod_ip: Ipv4Addr, limit: Duration) -> Result<Outcome, String> {
    if let Some(get) = &probe.http_get {
        return http::get(get, container, pod_ip).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let address = tcp_address(tcp, container, pod_ip).await?;
        return match sluice_reach::connect(address).await {
            Ok(_) => Ok(Outcome::Good),
            Err(error) => Err(refused(address, &error)),
        };
    }
    // The API refuses a probe that asks nothing.
    let Some(ask) = &probe.grpc else { return Ok(Outcome::Unknown) };
    let port = u16::try_from(ask.port).map_err(|_| format!("invalid port {}", ask.port))?;
    let service = ask.service.as_deref().unwrap_or_default();
    grpc::check((pod_ip, port).into(), service, limit).await.map(|()| Outcome::Good)
}

async fn tcp_address(tcp: &TCPSocketAction, container: &Container, pod_ip: Ipv4Addr) -> Result<SocketAddr, String> {
    let port = port(container, &tcp.port)?;
    match tcp.host.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => resolve(host, port).await,
        None => Ok((pod_ip, port).into()),
    }
}

/// What a kubelet says of each handler that took too long.
fn too_late(probe: &Probe, container: &Container, pod_ip: Ipv4Addr, limit: Duration) -> String {
    if let Some(get) = &probe.http_get {
        let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        return format!("Get \"{}\": {why}", http::address(get, container, pod_ip));
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_string());
        return format!("dial tcp {host}:{}: i/o timeout", port(container, &tcp.port).unwrap_or_default());
    }
    format!("timeout: health rpc did not complete within {}s", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: serde_json::Value) -> Probe {
        serde_json::from_value(text).expect("a probe")
    }

    #[test]
    fn a_command_is_judged_by_its_exit_code() {
        let judge = |outcome| judge_exec(outcome, &["sh".to_owned(), "-c x".to_owned()], Duration::from_secs(3));
        let exited = |code| ExecOutcome::Exited { code, output: "said".to_owned() };
        assert_eq!(judge(exited(0)), Outcome::Good);
        assert_eq!(judge(exited(1)), Outcome::Bad("said".to_owned()));
        let late = "command timed out: \"sh -c x\" timed out after 3s";
        assert_eq!(judge(ExecOutcome::TimedOut), Outcome::Bad(late.to_owned()));
        assert_eq!(judge(ExecOutcome::Failed("cannot start `x`".into())), Outcome::Bad("cannot start `x`".into()));
        assert_eq!(judge(ExecOutcome::Failed("the container has ended".into())), Outcome::Unknown);
    }

    #[test]
    fn timeouts_are_told_by_handler() {
        assert_eq!(timeout(&probe(serde_json::json!({}))), Duration::from_secs(1));
        assert_eq!(timeout(&probe(serde_json::json!({"timeoutSeconds": 7}))), Duration::from_secs(7));
        let check = |handler: serde_json::Value, expected: &str| {
            let container = Container { name: "web".into(), ..Container::default() };
            let said = too_late(&probe(handler), &container, [10, 0, 0, 1].into(), Duration::from_secs(2));
            assert_eq!(said, expected);
        };
        check(
            serde_json::json!({"httpGet": {"port": 80, "path": "/h"}}),
            "Get \"http://10.0.0.1:80/h\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        );
        check(serde_json::json!({"tcpSocket": {"port": 80}}), "dial tcp 10.0.0.1:80: i/o timeout");
        check(serde_json::json!({"tcpSocket": {"port": 81, "host": "db"}}), "dial tcp db:81: i/o timeout");
        check(serde_json::json!({"grpc": {"port": 80}}), "timeout: health rpc did not complete within 2s");
    }

    #[tokio::test]
    async fn a_connection_is_enough_for_tcp_and_no_more_than_a_connection_is_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let container = serde_json::json!({"name": "web", "ports": [{"name": "db", "containerPort": port}]});
        let container: Container = serde_json::from_value(container).expect("a container");
        let look = async |handler: serde_json::Value| {
            connect(&probe(handler), &container, Ipv4Addr::LOCALHOST, Duration::from_secs(1)).await
        };
        assert_eq!(look(serde_json::json!({"tcpSocket": {"port": port}})).await, Ok(Outcome::Good));
        assert_eq!(
            look(serde_json::json!({"tcpSocket": {"port": "db", "host": "localhost"}})).await,
            Ok(Outcome::Good)
        );
        let refused = Err("dial tcp 127.0.0.1:1: connect: connection refused".to_owned());
        assert_eq!(look(serde_json::json!({"tcpSocket": {"port": 1}})).await, refused);
        assert_eq!(look(serde_json::json!({})).await, Ok(Outcome::Unknown));
    }
}
