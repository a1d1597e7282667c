//! The `httpGet` probe: good is whatever is neither an error nor somewhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Outcome,
    target::{port, refused, resolve},
    tls,
};

pub(super) const USER_AGENT: &str = "kube-probe/1.35";
const MAX_REDIRECTS: usize = 10;
/// What is read of an answer that somebody will see.
const MAX_BODY_BYTES: usize = 10 << 10;

/// Where a probe looks next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// What matters of an answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    location: Option<String>,
    /// Of redirects alone.
    body: String,
}

/// The first place, when the manifest makes sense.
fn place(get: &HTTPGetAction, container: &Container, pod_ip: Ipv4Addr) -> Result<Place, String> {
    let host = get.host.as_deref().filter(|host| !host.is_empty());
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    Ok(Place {
        secure: get.scheme.as_deref() == Some("HTTPS"),
        host: host.map_or_else(|| pod_ip.to_string(), str::to_owned),
        port: port(container, &get.port)?,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
    })
}

/// What the probe asks for first, for messages.
pub(super) fn address(get: &HTTPGetAction, container: &Container, pod_ip: Ipv4Addr) -> String {
    place(get, container, pod_ip).map_or_else(|why| why, |place| place.to_string())
}

/// Redirects are followed as long as they stay on the same host, whatever its port.
pub(super) async fn get(get: &HTTPGetAction, container: &Container, pod_ip: Ipv4Addr) -> Result<Outcome, String> {
    let mut place = place(get, container, pod_ip)?;
    for _ in 0..=MAX_REDIRECTS {
        let answer = fetch(get, &place).await.map_err(|why| format!("Get \"{place}\": {why}"))?;
        match (answer.status, answer.location) {
            (300..400, Some(location)) => match place.join(&location) {
                Some(next) if next.host == place.host => place = next,
                // Somebody else's health is none of our business.
                _ => return Ok(Outcome::Odd(format!("Probe terminated redirects, Response body: {}", answer.body))),
            },
            (200..300, _) => return Ok(Outcome::Good),
            (300..400, None) => {
                return Ok(Outcome::Odd(format!("Probe terminated redirects, Response body: {}", answer.body)));
            }
            (status, _) => return Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Err(format!("Get \"{place}\": stopped after {MAX_REDIRECTS} redirects"))
}

impl Place {
    /// Where a `Location` leads from here.
    fn join(&self, location: &str) -> Option<Self> {
        let scheme = location.split_once("://").map(|(scheme, _)| scheme);
        // `Uri` takes a bare word for a host, which no `Location` means.
        if scheme.is_none_or(|scheme| scheme.contains(['/', '?', '#'])) {
            let base = self.path.split(['?', '#']).next().unwrap_or("/");
            let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = match location {
                rooted if rooted.starts_with('/') => rooted.to_owned(),
                query if query.starts_with('?') => format!("{base}{query}"),
                relative => format!("{folder}/{relative}"),
            };
            return Some(Self { path, ..self.clone() });
        }
        let uri: Uri = location.parse().ok()?;
        let host = uri.host()?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return None,
            None => self.secure,
        };
        Some(Self {
            secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(host)) => format!("[{host}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

async fn fetch(get: &HTTPGetAction, place: &Place) -> Result<Answer, String> {
    let address: SocketAddr = resolve(&place.host, place.port).await?;
    let request = request(get, place)?;
    let stream = sluice_reach::connect(address).await.map_err(|error| refused(address, &error))?;
    match place.secure {
        true => exchange(tls::connect(stream, &place.host, address).await?, request).await,
        false => exchange(stream, request).await,
    }
}

/// The manifest's headers over ours; an empty `Accept` or `User-Agent` takes ours away.
fn request(get: &HTTPGetAction, place: &Place) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&place.path)
        .header(header::HOST, place.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    for given in get.http_headers.iter().flatten() {
        let name: HeaderName = given.name.parse().map_err(|_| format!("invalid header name \"{}\"", given.name))?;
        let value: HeaderValue =
            given.value.parse().map_err(|_| format!("invalid header field value for \"{}\"", given.name))?;
        match name {
            header::ACCEPT | header::USER_AGENT if value.is_empty() => drop(headers.remove(name)),
            header::ACCEPT | header::USER_AGENT | header::HOST => drop(headers.insert(name, value)),
            name => drop(headers.append(name, value)),
        }
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(read(response).await)
    };
    // The connection is driven only until the answer is here.
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

/// The head says it all, unless it leads elsewhere.
async fn read(response: Response<Incoming>) -> Answer {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = match status {
        300..400 => Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.ok(),
        _ => None,
    };
    let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    Answer { status, location, body }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let place = Place { secure: false, host: "127.64.0.1".into(), port: 8080, path: "/a/b?x".into() };
        for (location, expected) in [
            ("/next?x=1", "http://127.64.0.1:8080/next?x=1"),
            ("c", "http://127.64.0.1:8080/a/c"),
            ("?y", "http://127.64.0.1:8080/a/b?y"),
            ("http://127.64.0.1/", "http://127.64.0.1:80/"),
            ("/log?to=http://example.com", "http://127.64.0.1:8080/log?to=http://example.com"),
            ("https://127.64.0.1/s", "https://127.64.0.1:443/s"),
            ("https://127.64.0.1:8443", "https://127.64.0.1:8443/"),
            ("http://example.com/", "http://example.com:80/"),
            ("http://[::1]:81/", "http://[::1]:81/"),
        ] {
            assert_eq!(place.join(location).map(|next| next.to_string()).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(place.join("ftp://127.64.0.1/"), None);
    }

    #[test]
    fn every_field_of_the_action_has_its_say() {
        let check = |action: serde_json::Value, expected: Result<&str, &str>| {
            let container = serde_json::json!({"name": "web", "ports": [{"name": "http", "containerPort": 8081}]});
            let container: Container = serde_json::from_value(container).expect("a container");
            let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
            let place = place(&action, &container, [127, 64, 0, 1].into()).map(|place| place.to_string());
            assert_eq!(place.as_deref().map_err(String::as_str), expected);
        };
        check(serde_json::json!({"port": 80}), Ok("http://127.64.0.1:80/"));
        check(serde_json::json!({"port": "http", "path": "healthz?full"}), Ok("http://127.64.0.1:8081/healthz?full"));
        check(serde_json::json!({"port": "8", "scheme": "HTTPS", "host": "localhost"}), Ok("https://localhost:8/"));
        check(serde_json::json!({"port": "nobody"}), Err("couldn't find port \"nobody\" in container web"));
    }

    #[test]
    fn headers_of_the_manifest_replace_ours() {
        let check = |headers: serde_json::Value, expected: &str| {
            let action: HTTPGetAction =
                serde_json::from_value(serde_json::json!({"port": 80, "httpHeaders": headers})).expect("an action");
            let place = Place { secure: false, host: "h".into(), port: 80, path: "/".into() };
            let request = request(&action, &place).expect("a request");
            let lines = request.headers().iter();
            let mut lines: Vec<String> =
                lines.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
            lines.sort();
            assert_eq!(lines.join(", "), expected);
        };
        let of = |name: &str, value: &str| serde_json::json!({"name": name, "value": value});
        check(serde_json::json!([]), "accept: */*, connection: close, host: h:80, user-agent: kube-probe/1.35");
        check(
            serde_json::json!([
                of("Host", "shop.test"),
                of("X-A", "1"),
                of("X-A", "2"),
                of("Accept", ""),
                of("user-agent", "me")
            ]),
            "connection: close, host: shop.test, user-agent: me, x-a: 1, x-a: 2",
        );
    }

    /// Answers every request on its own connection with what `answers` has for its path.
    async fn serve(answers: &'static [(&'static str, &'static str)]) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default();
                let answer = answers.iter().find(|(known, _)| *known == path).map_or("404 Not Found", |(_, it)| it);
                let answer = format!("HTTP/1.1 {}\r\n\r\n", answer.replace("PORT", &port.to_string()));
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn answers_count_by_their_status_and_redirects_stay_on_the_host() {
        let port = serve(&[
            ("/ok", "200 OK\r\nContent-Length: 0"),
            ("/bad", "503 Sorry\r\nContent-Length: 0"),
            ("/to-ok", "302 Found\r\nLocation: http://127.0.0.1:PORT/ok\r\nContent-Length: 0"),
            ("/to-bad", "302 Found\r\nLocation: bad\r\nContent-Length: 0"),
            ("/away", "302 Found\r\nLocation: http://example.com/\r\nContent-Length: 3\r\n\r\nbye"),
            ("/round", "302 Found\r\nLocation: /round\r\nContent-Length: 0"),
            ("/nowhere", "304 Not Modified"),
        ])
        .await;
        let container = Container { name: "web".into(), ..Container::default() };
        let look = async |path: &str| {
            let action = serde_json::json!({"port": port, "path": path});
            let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
            get(&action, &container, Ipv4Addr::LOCALHOST).await
        };
        assert_eq!(look("/ok").await, Ok(Outcome::Good));
        assert_eq!(look("/to-ok").await, Ok(Outcome::Good));
        assert_eq!(look("/bad").await, Err("HTTP probe failed with statuscode: 503".to_owned()));
        assert_eq!(look("/to-bad").await, Err("HTTP probe failed with statuscode: 503".to_owned()));
        let odd = |body: &str| Ok(Outcome::Odd(format!("Probe terminated redirects, Response body: {body}")));
        assert_eq!(look("/away").await, odd("bye"));
        assert_eq!(look("/nowhere").await, odd(""));
        let stopped = format!("Get \"http://127.0.0.1:{port}/round\": stopped after 10 redirects");
        assert_eq!(look("/round").await, Err(stopped));
    }

    #[tokio::test]
    async fn https_takes_any_certificate() {
        let key = rcgen::generate_simple_self_signed(vec!["somebody.else".to_owned()]).expect("a certificate");
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a server");
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _request = stream.read(&mut [0; 4096]).await;
                let _gone = stream.write_all(b"HTTP/1.1 204 None\r\n\r\n").await;
                let _gone = stream.shutdown().await;
            }
        });
        let container = Container { name: "web".into(), ..Container::default() };
        for host in ["", "localhost"] {
            let action = serde_json::json!({"port": port, "scheme": "HTTPS", "host": host});
            let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
            assert_eq!(get(&action, &container, Ipv4Addr::LOCALHOST).await, Ok(Outcome::Good), "{host}");
        }
    }
}
