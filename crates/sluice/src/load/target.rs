//! What is asked for: an address and a request that is the same every time.

use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::Empty;
use hyper::body::Bytes;

#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `host:port` to connect to.
    pub authority: String,
    path: String,
    host: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TargetError {
    #[error("`{0}` is not a URL such as `http://127.0.0.1:8080/`")]
    Url(String),
    #[error("`{0}` needs TLS, which `sluice load` does not speak yet: use an `http://` address")]
    Tls(String),
    #[error("header `{0}` is not of the form NAME=VALUE")]
    Header(String),
}

impl Target {
    /// Headers are given as `NAME=VALUE`; a `Host` among them replaces the URL's.
    pub(crate) fn parse(url: &str, headers: &[String]) -> Result<Self, TargetError> {
        let bad = || TargetError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(TargetError::Tls(url.to_owned())),
            _ => return Err(bad()),
        }
        let authority = uri.authority().ok_or_else(bad)?;
        let mut target = Self {
            authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| bad())?,
            headers: Vec::new(),
        };
        for header in headers {
            let (name, value) = parse_header(header).ok_or_else(|| TargetError::Header(header.clone()))?;
            if name == http::header::HOST { target.host = value } else { target.headers.push((name, value)) }
        }
        Ok(target)
    }

    pub(crate) fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.path.parse().expect("the path was parsed with the URL");
        request.headers_mut().insert(http::header::HOST, self.host.clone());
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        request
    }
}

fn parse_header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().parse().ok()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_an_address_and_a_request() {
        let target = Target::parse("http://shop.local/a?b=1", &["host=other".into(), "X-User=7".into()]).unwrap();
        assert_eq!(target.authority, "shop.local:80");
        let request = target.request();
        assert_eq!(request.uri(), "/a?b=1");
        assert_eq!(request.headers()["host"], "other");
        assert_eq!(request.headers()["x-user"], "7");
    }

    #[test]
    fn what_is_wrong_with_a_target_is_named() {
        let error = |url: &str, headers: &[String]| Target::parse(url, headers).unwrap_err().to_string();
        assert_eq!(error("shop", &[]), "`shop` is not a URL such as `http://127.0.0.1:8080/`");
        assert!(error("https://shop/", &[]).contains("needs TLS"));
        assert_eq!(error("http://shop/", &["oops".into()]), "header `oops` is not of the form NAME=VALUE");
    }
}
