//! Bearer tokens: fetched where the registry says, for what it says, and kept while they last.

use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{Either, Empty, Full};
use serde::Deserialize;

use super::hosts::is_loopback;
use super::{Challenge, Credential, MAX_TOKEN_BYTES, MAX_TOKENS, RegistryError, Session, USER_AGENT, read_body};

/// Tokens that do not say how long they last.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Not used in their last seconds.
const MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Session {
    /// What was good for the last request.
    pub(super) fn known_authorization(&self) -> Option<HeaderValue> {
        let tokens = self.registry.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tokens.get(&self.key()).filter(|token| token.until > Instant::now()).map(|token| token.header.clone())
    }

    fn key(&self) -> String {
        let user = self.credential.as_ref().map(Credential::fingerprint).unwrap_or_default();
        format!("{} {} {user}", self.endpoint.authority, self.repository)
    }

    pub(super) async fn bearer(&self, challenge: &Challenge) -> Result<HeaderValue, RegistryError> {
        if let Some(Credential::Bearer(token)) = &self.credential {
            return bearer_header(token).ok_or_else(|| RegistryError::Token { host: self.endpoint.authority.clone() });
        }
        let scope =
            challenge.get("scope").map_or_else(|| format!("repository:{}:pull", self.repository), str::to_owned);
        let realm = challenge.get("realm").unwrap_or_default();
        let uri: Uri = realm.parse().map_err(|_| RegistryError::Token { host: realm.to_owned() })?;
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        // A password must not go out in plain text because a header says so.
        let plain = uri.scheme_str() != Some("https");
        if plain && !is_loopback(&host) && self.endpoint.scheme == "https" {
            return Err(RegistryError::Redirect {
                host: self.endpoint.authority.clone(),
                why: "its tokens to plain HTTP".to_owned(),
            });
        }
        if !self.registry.hosts.may_lead(&self.endpoint.authority, &host) {
            let why = format!("its tokens to `{host}`, an address of this machine or its link");
            return Err(RegistryError::Redirect { host: self.endpoint.authority.clone(), why });
        }
        let request = self.token_request(&uri, challenge.get("service"), &scope);
        let request = request.ok_or_else(|| RegistryError::Token { host: host.clone() })?;
        let response = self.registry.send(request, &host).await?;
        let status = response.status();
        let body = read_body(response.into_body(), MAX_TOKEN_BYTES, "token", &host, self.registry.patience).await?;
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = format!("no token for `{scope}`");
                return Err(RegistryError::Denied { what: self.repository.clone(), host, message });
            }
            status => return Err(RegistryError::Status { host, status, message: String::new() }),
        }
        let unreadable = || RegistryError::Token { host: host.clone() };
        let issued: Issued = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let token = if issued.token.is_empty() { issued.access_token } else { issued.token };
        let header = bearer_header(&token).filter(|_| !token.is_empty()).ok_or_else(unreadable)?;
        let life = issued.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).saturating_sub(MARGIN);
        let mut tokens = self.registry.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        let until = Instant::now().checked_add(life).unwrap_or_else(Instant::now);
        tokens.insert(self.key(), Token { header: header.clone(), until });
        Ok(header)
    }

    fn token_request(&self, realm: &Uri, service: Option<&str>, scope: &str) -> Option<Request<super::Body>> {
        let mut form = vec![("scope", scope)];
        form.extend(service.map(|service| ("service", service)));
        if let Some(Credential::Identity(refresh)) = &self.credential {
            form.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "sluice"),
                ("refresh_token", refresh.as_str()),
            ]);
            let request = Request::builder()
                .method(Method::POST)
                .uri(realm)
                .header(header::USER_AGENT, USER_AGENT)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            return request.body(Either::Right(Full::from(encode(&form)))).ok();
        }
        let separator = if realm.query().is_some() { '&' } else { '?' };
        let uri = format!("{realm}{separator}{}", encode(&form));
        let mut request = Request::builder().method(Method::GET).uri(uri).header(header::USER_AGENT, USER_AGENT);
        if let Some(basic) = self.credential.as_ref().and_then(Credential::basic) {
            request = request.header(header::AUTHORIZATION, basic);
        }
        request.body(Either::Left(Empty::new())).ok()
    }
}

fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn encode(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
    };
    form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}
