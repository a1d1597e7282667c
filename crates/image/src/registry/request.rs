//! One request until it is answered: authentication, redirects, and another try where that is worth it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use jiff::Timestamp;

use super::hosts::is_loopback;
use super::{
    Body, Challenge, MAX_ATTEMPTS, MAX_ERROR_BYTES, MAX_REDIRECTS, MAX_RETRY_AFTER, MAX_SILENCES, Registry,
    RegistryError, Session, USER_AGENT, read_body,
};

impl Session {
    /// How long to wait before another try.
    pub(super) fn delay(&self, attempt: u32) -> Duration {
        self.registry.patience.pause * 2u32.saturating_pow(attempt)
    }

    /// A successful answer, and the host that gave it.
    pub(super) async fn get(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<(Response<Incoming>, String), RegistryError> {
        let host = &self.endpoint.authority;
        let uri = format!("{}://{host}{path}", self.endpoint.scheme);
        let uri: Uri = uri
            .parse()
            .map_err(|_| RegistryError::Unreachable { host: host.clone(), why: format!("`{uri}` is no address") })?;
        let mut authorization = self.known_authorization();
        let mut asked = false;
        let (mut attempt, mut silences) = (0, 0);
        loop {
            attempt += 1;
            let last = attempt >= MAX_ATTEMPTS;
            // Whoever has somebody else to ask does not wait for a mirror.
            let patient = !last && !self.endpoint.is_mirror;
            let (response, host) = match self.follow(&uri, headers, authorization.as_ref()).await {
                Ok(answer) => answer,
                Err(RegistryError::Silent { .. }) if patient && silences + 1 < MAX_SILENCES => {
                    silences += 1;
                    continue;
                }
                Err(RegistryError::Unreachable { .. }) if patient => {
                    tokio::time::sleep(self.delay(attempt - 1)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok((response, host)),
                // Only the registry itself learns who we are, never a host that it redirects to.
                StatusCode::UNAUTHORIZED if !asked && host == self.endpoint.authority => {
                    asked = true;
                    authorization = Some(self.authorize(response.headers()).await?);
                }
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                    if !last =>
                {
                    let wait =
                        retry_after(response.headers(), Timestamp::now()).unwrap_or_else(|| self.delay(attempt - 1));
                    if wait > MAX_RETRY_AFTER {
                        return Err(self.refused(response, path, host).await);
                    }
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(self.refused(response, path, host).await),
            }
        }
    }

    /// Follows redirects. Another host gets neither our credentials nor, after TLS, plain text.
    async fn follow(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response<Incoming>, String), RegistryError> {
        let mut uri = uri.clone();
        let origin = authority(&uri);
        for _ in 0..=MAX_REDIRECTS {
            let host = authority(&uri);
            let mut request = Request::builder().method(Method::GET).uri(&uri).header(header::USER_AGENT, USER_AGENT);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = authorization.filter(|_| host == origin) {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request.body(Either::Left(Empty::new())).expect("every part was checked");
            let response = self.registry.send(request, &host).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok((response, host));
            }
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            uri = redirected(&uri, to)
                .map_err(|why| RegistryError::Redirect { host: host.clone(), why: why.to_owned() })?;
            let to = authority(&uri);
            if !self.registry.hosts.may_lead(&host, &to) {
                let why = format!("to `{to}`, an address of this machine or its link");
                return Err(RegistryError::Redirect { host, why });
            }
        }
        Err(RegistryError::Redirect { host: origin, why: format!("too often: more than {MAX_REDIRECTS} times") })
    }

    async fn authorize(&self, headers: &HeaderMap) -> Result<HeaderValue, RegistryError> {
        let said: Vec<&str> =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<Challenge> = said.iter().flat_map(|said| Challenge::parse(said)).collect();
        let host = self.endpoint.authority.clone();
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer" && c.get("realm").is_some()) {
            return self.bearer(bearer).await;
        }
        match challenges.iter().any(|c| c.scheme == "basic") {
            true => match self.credential.as_ref().and_then(super::Credential::basic) {
                Some(basic) => Ok(basic),
                None => Err(RegistryError::Denied {
                    what: self.repository.clone(),
                    host,
                    message: "it wants a user name and a password, and we know none for it".to_owned(),
                }),
            },
            false => Err(RegistryError::Challenge { host, challenge: said.join(", ") }),
        }
    }

    async fn refused(&self, response: Response<Incoming>, path: &str, host: String) -> RegistryError {
        let status = response.status();
        let body = read_body(response.into_body(), MAX_ERROR_BYTES, "error", &host, self.registry.patience)
            .await
            .unwrap_or_default();
        let message = error_message(&body);
        let name = path.rsplit('/').next().unwrap_or_default();
        let separator = if name.contains(':') { '@' } else { ':' };
        let what = format!("{}/{}{separator}{name}", self.endpoint.authority, self.repository);
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { what, host, message },
            status => RegistryError::Status { host, status, message },
        }
    }
}

impl Registry {
    pub(super) async fn send(&self, request: Request<Body>, host: &str) -> Result<Response<Incoming>, RegistryError> {
        let waited = self.patience.idle;
        let silent = RegistryError::Silent { host: host.to_owned(), what: "answer", waited };
        let answer = tokio::time::timeout(waited, self.http.request(request)).await.map_err(|_| silent)?;
        answer.map_err(|error| RegistryError::Unreachable { host: host.to_owned(), why: innermost(&error) })
    }
}

/// The cause that a person can do something about.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn authority(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

fn redirected(from: &Uri, to: Option<&str>) -> Result<Uri, &'static str> {
    const NOWHERE: &str = "to nowhere";
    let to: Uri = to.ok_or(NOWHERE)?.parse().map_err(|_| NOWHERE)?;
    let mut parts = to.into_parts();
    if parts.authority.is_none() {
        parts.authority = from.authority().cloned();
        parts.scheme = from.scheme().cloned();
    }
    let to = Uri::from_parts(parts).map_err(|_| NOWHERE)?;
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) => Ok(to),
        (Some("http"), Some("http")) => Ok(to),
        (_, Some("http")) if is_loopback(&authority(&to)) => Ok(to),
        (_, Some("http")) => Err("from TLS to plain HTTP"),
        _ => Err("to something else than HTTP"),
    }
}

/// Seconds or a date; nothing for what is neither.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// What the registry says, out of its JSON or else as plain text.
fn error_message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().map(|json| &json["errors"][0]);
    let text = error.and_then(|e| e["message"].as_str().or(e["code"].as_str()));
    text.or_else(|| json.as_ref()?["details"].as_str()).unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,60}", range in "(bytes )?[0-9]{0,22}-?[0-9*]{0,22}/?[0-9*]{0,22}", to in ".{0,60}") {
            let of = |name, text: &str| {
                HeaderMap::from_iter(HeaderValue::from_str(text).ok().map(|value: HeaderValue| (name, value)))
            };
            retry_after(&of(header::RETRY_AFTER, &text), Timestamp::now());
            for range in [&text, &range] {
                super::super::content_range(&of(header::CONTENT_RANGE, range));
                super::super::number(&of(header::CONTENT_LENGTH, range), &header::CONTENT_LENGTH);
            }
            let from = Uri::from_static("https://registry.test/v2/");
            for to in [&text, &to] {
                let led = redirected(&from, Some(to));
                proptest::prop_assert!(led.is_err() || led.is_ok_and(|to| to.scheme_str() == Some("https") || is_loopback(&authority(&to))));
            }
            error_message(to.as_bytes());
        }
    }

    #[test]
    fn registries_say_how_long_to_wait_in_seconds_or_by_a_date() {
        let now = "2026-03-01T12:00:00Z".parse().expect("a time");
        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_str(text).expect("text"))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait("Sun, 01 Mar 2026 12:00:30 GMT"), Some(30));
        assert_eq!(wait("Sun, 01 Mar 2026 11:00:00 GMT"), Some(0), "a time that has passed");
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }
}
