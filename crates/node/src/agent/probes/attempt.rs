//! One probe: an HTTP GET, a TCP connection or a command.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::{Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::tls;
use crate::{agent::link::Link, wire::ExecOutcome};

const MAX_REDIRECTS: usize = 10;
const USER_AGENT: &str = "kube-probe/1.35";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    Bad(String),
    /// The probe itself could not be carried out, which says nothing about the container.
    Unknown,
}

/// What a probe is aimed at.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) container: Container,
    pub(super) pod_ip: Ipv4Addr,
    pub(super) link: Link,
}

pub(super) async fn attempt(probe: &Probe, target: &Target) -> Outcome {
    let limit = Duration::from_secs(u64::from(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs()));
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match target.link.exec(&target.container.name, &command, limit).await {
            ExecOutcome::Exited { code: 0, .. } => Outcome::Good,
            ExecOutcome::Exited { output, .. } => Outcome::Bad(output),
            ExecOutcome::TimedOut => {
                Outcome::Bad(format!("command timed out: {command:?} timed out after {}s", limit.as_secs()))
            }
            ExecOutcome::Failed(why) if why.contains("cannot start") => Outcome::Bad(why),
            ExecOutcome::Failed(_) => Outcome::Unknown,
        };
    }
    let connect = async {
        if let Some(get) = &probe.http_get {
            http(get, target).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.as_deref().filter(|host| !host.is_empty());
            let address = address(host, &tcp.port, target).await?;
            TcpStream::connect(address).await.map(drop).map_err(|error| refused(address, &error))
        } else {
            Err("process pods know httpGet, tcpSocket and exec probes only".to_owned())
        }
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(Ok(())) => Outcome::Good,
        Ok(Err(why)) => Outcome::Bad(why),
        Err(_) => Outcome::Bad(format!(
            "no answer within {}s (Client.Timeout exceeded while awaiting headers)",
            limit.as_secs()
        )),
    }
}

/// A GET counts as good below 400. Redirects are followed as long as they stay on the same host.
async fn http(get: &HTTPGetAction, target: &Target) -> Result<(), String> {
    let scheme = if get.scheme.as_deref() == Some("HTTPS") { "https" } else { "http" };
    let host = get.host.as_deref().filter(|host| !host.is_empty());
    let address = address(host, &get.port, target).await?;
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let mut path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    for _ in 0..=MAX_REDIRECTS {
        let (status, location) =
            fetch(get, address, &path).await.map_err(|why| format!("Get \"{scheme}://{address}{path}\": {why}"))?;
        match (status, location) {
            (300..400, Some(location)) => match same_host(&location, address) {
                Some(next) => path = next,
                // Somebody else's health is none of our business.
                None => return Ok(()),
            },
            (200..400, _) => return Ok(()),
            (status, _) => return Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Err(format!("Get \"{scheme}://{address}{path}\": stopped after {MAX_REDIRECTS} redirects"))
}

async fn fetch(get: &HTTPGetAction, address: SocketAddr, path: &str) -> Result<(u16, Option<String>), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| refused(address, &error))?;
    if get.scheme.as_deref() == Some("HTTPS") {
        exchange(tls::connect(stream, address).await?, get, address, path).await
    } else {
        exchange(stream, get, address, path).await
    }
}

/// Sends the request and reads the head of the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    get: &HTTPGetAction,
    address: SocketAddr,
    path: &str,
) -> Result<(u16, Option<String>), String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut request = Request::get(path);
    let headers = get.http_headers.iter().flatten();
    let names: Vec<String> = headers.clone().map(|header| header.name.to_ascii_lowercase()).collect();
    for (name, value) in
        [("host", address.to_string()), ("user-agent", USER_AGENT.to_owned()), ("accept", "*/*".to_owned())]
    {
        if !names.iter().any(|given| given == name) {
            request = request.header(name, value);
        }
    }
    for given in headers {
        request = request.header(&given.name, &given.value);
    }
    let request = request
        .header(header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let location =
            response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((response.status().as_u16(), location))
    };
    // The connection is driven only until the head is here: nobody reads the body.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// The path to go on with, if a redirect leads to the same host.
fn same_host(location: &str, address: SocketAddr) -> Option<String> {
    let uri: Uri = location.parse().ok()?;
    let stays = uri.host().is_none_or(|host| host == address.ip().to_string());
    stays.then(|| uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string))
}

async fn address(host: Option<&str>, port: &IntOrString, target: &Target) -> Result<SocketAddr, String> {
    let port = self::port(&target.container, port)?;
    let Some(host) = host else { return Ok(SocketAddr::from((target.pod_ip, port))) };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::from((ip, port)));
    }
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("lookup {host}: {error}"))?;
    found.next().ok_or_else(|| format!("lookup {host}: no address"))
}

/// A port by number, or by the name that the container gives it.
pub(in crate::agent) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

fn refused(address: SocketAddr, error: &std::io::Error) -> String {
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
        assert!(find("grpc").is_err());
        assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
        assert!(port(&container, &IntOrString::Int(70_000)).is_err());
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let address = "127.64.0.1:80".parse().expect("an address");
        assert_eq!(same_host("/next?x=1", address).as_deref(), Some("/next?x=1"));
        assert_eq!(same_host("http://127.64.0.1:80/", address).as_deref(), Some("/"));
        assert_eq!(same_host("http://example.com/", address), None);
    }
}
