//! Http checks: one request to every ready pod of the candidate, past all gateways.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluice_model::rollout::HttpCheck;
use sluice_stats::Verdict;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is searched for the wanted text.
const MOST_BYTES: usize = 1 << 20;
/// Pods that are asked in one measurement.
const MOST_PODS: usize = 32;
/// Where a container that names no port listens: the `PORT` it is told.
const USUAL_PORT: u16 = 8080;

/// A pod that shall be asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) ip: String,
}

/// Why a pod did not answer as wanted.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("has no usable address `{0}`")]
    Address(String),
    #[error("cannot be asked: the path is no part of a URL")]
    Path,
    #[error("cannot be reached: {0}")]
    Connect(#[source] std::io::Error),
    #[error("does not speak http: {0}")]
    Http(#[source] hyper::Error),
    #[error("answers {got} where {wanted} is wanted")]
    Status { got: u16, wanted: String },
    #[error("does not say `{wanted}`")]
    Body { wanted: String },
    #[error("sends no complete answer of at most {MOST_BYTES} bytes")]
    BodyUnread,
    #[error("did not answer within {}s", TIMEOUT.as_secs())]
    Timeout,
}

/// Asks all pods; the first that fails decides.
pub(crate) async fn ask(check: &HttpCheck, pods: Vec<Asked>, port: Option<u16>) -> (Verdict, String) {
    let port = check.port.or(port).unwrap_or(USUAL_PORT);
    let mut answers: FuturesUnordered<_> = pods
        .into_iter()
        .take(MOST_PODS)
        .map(|pod| async move {
            let asked = tokio::time::timeout(TIMEOUT, ask_one(check, &pod.ip, port)).await;
            asked.unwrap_or(Err(ProbeError::Timeout)).map_err(|error| (pod.name, error))
        })
        .collect();
    let mut asked = 0;
    while let Some(answer) = answers.next().await {
        if let Err((pod, error)) = answer {
            return (Verdict::Fail, format!("GET {}: pod {pod} {error}", check.path));
        }
        asked += 1;
    }
    match asked {
        0 => (Verdict::NoData, format!("GET {}: no pod is ready", check.path)),
        1 => (Verdict::Pass, format!("GET {}: as wanted on 1 pod", check.path)),
        many => (Verdict::Pass, format!("GET {}: as wanted on {many} pods", check.path)),
    }
}

async fn ask_one(check: &HttpCheck, ip: &str, port: u16) -> Result<(), ProbeError> {
    let ip = ip.parse().map_err(|_| ProbeError::Address(ip.to_owned()))?;
    let address = SocketAddr::new(ip, port);
    let stream = sluice_reach::connect(address).await.map_err(ProbeError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Http)?;
    let driver = tokio::spawn(connection);
    let answer = exchange(&mut sender, check, address).await;
    driver.abort();
    answer
}

async fn exchange(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    check: &HttpCheck,
    address: SocketAddr,
) -> Result<(), ProbeError> {
    let request = Request::get(check.path.as_str())
        .header("host", address.to_string())
        .header("user-agent", "sluice-check")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Path)?;
    let answer = sender.send_request(request).await.map_err(ProbeError::Http)?;
    let got = answer.status();
    let as_wanted = check.status.map_or(got.is_success(), |wanted| wanted == got.as_u16());
    if !as_wanted {
        let wanted = check.status.map_or_else(|| "2xx".to_owned(), |wanted| wanted.to_string());
        return Err(ProbeError::Status { got: got.as_u16(), wanted });
    }
    let Some(wanted) = &check.contains else { return Ok(()) };
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|_| ProbeError::BodyUnread)?;
    let found = String::from_utf8_lossy(&body.to_bytes()).contains(wanted.as_str());
    if found { Ok(()) } else { Err(ProbeError::Body { wanted: wanted.clone() }) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Asks one pod that answers everything with `answer`.
    async fn check(check: &str, answer: &'static str, expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let pod = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let check: HttpCheck = serde_json::from_str(check).expect("a check");
        let asked = vec![Asked { name: "shop-1".to_owned(), ip: "127.0.0.1".to_owned() }];
        let (verdict, evidence) = ask(&check, asked, Some(port)).await;
        pod.abort();
        assert_eq!(format!("{verdict:?}: {evidence}"), expected);
    }

    const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const SICK: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_pod_answers_as_wanted_or_the_evidence_says_how_not() {
        check(r#"{"path": "/healthz"}"#, FINE, "Pass: GET /healthz: as wanted on 1 pod").await;
        check("{}", SICK, "Fail: GET /: pod shop-1 answers 503 where 2xx is wanted").await;
        check(r#"{"status": 503}"#, SICK, "Pass: GET /: as wanted on 1 pod").await;
        check(r#"{"contains": "hello"}"#, FINE, "Pass: GET /: as wanted on 1 pod").await;
        check(r#"{"contains": "bye"}"#, FINE, "Fail: GET /: pod shop-1 does not say `bye`").await;
        check("{}", "nonsense\r\n\r\n", "Fail: GET /: pod shop-1 does not speak http: invalid HTTP version parsed")
            .await;
    }

    #[tokio::test]
    async fn without_a_pod_nothing_is_known() {
        let check: HttpCheck = serde_json::from_str("{}").expect("a check");
        let (verdict, _) = ask(&check, Vec::new(), None).await;
        assert_eq!(verdict, Verdict::NoData);
    }
}
