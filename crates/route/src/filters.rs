//! What a rule does to requests and answers on their way through.

use sluice_model::gateway::{HeaderFilter, HttpPathModifier, HttpRouteFilter, RequestRedirect, UrlRewrite};

use crate::cors::Cors;
use crate::head::RequestHead;
use crate::mirror;
use crate::template::{PathTemplate, UrlTemplate};

const DEFAULT_REDIRECT_STATUS: u16 = 302;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
    pub redirect: Option<Redirect>,
    pub rewrite: Option<Rewrite>,
    pub cors: Option<Cors>,
}

/// Applied in this order: set, add, remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    to: Destination,
    pub status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    /// Where the client came from, but for these parts.
    Parts {
        scheme: Option<String>,
        hostname: Option<String>,
        port: Option<u16>,
        path: Option<PathEdit>,
    },
    Url(UrlTemplate),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    pub hostname: Option<String>,
    path: Option<PathEdit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathEdit {
    Full(String),
    Prefix(String),
    Captured(PathTemplate),
}

impl Filters {
    /// The filters in one; the `Err` names the first kind that is not supported.
    pub fn compile(filters: &[HttpRouteFilter]) -> Result<Self, String> {
        let mut out = Self::default();
        for filter in filters {
            match filter.kind.as_str() {
                "RequestHeaderModifier" => out.request.extend(filter.request_header_modifier.as_ref()),
                "ResponseHeaderModifier" => out.response.extend(filter.response_header_modifier.as_ref()),
                "RequestRedirect" => out.redirect = filter.request_redirect.as_ref().map(Redirect::compile),
                "URLRewrite" => out.rewrite = filter.url_rewrite.as_ref().map(Rewrite::compile),
                "CORS" => out.cors = filter.cors.as_ref().map(Cors::compile),
                // A reference like those to backends, and compiled with them.
                mirror::KIND if filter.request_mirror.is_some() => {}
                other => return Err(other.to_owned()),
            }
        }
        Ok(out)
    }
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    fn extend(&mut self, from: Option<&HeaderFilter>) {
        let Some(HeaderFilter { set, add, remove }) = from else { return };
        self.set.extend(set.iter().map(|header| (header.name.clone(), header.value.clone())));
        self.add.extend(add.iter().map(|header| (header.name.clone(), header.value.clone())));
        self.remove.extend(remove.iter().cloned());
    }
}

impl Redirect {
    fn compile(from: &RequestRedirect) -> Self {
        let (scheme, hostname, port) = (from.scheme.clone(), from.hostname.clone(), from.port);
        let to = Destination::Parts { scheme, hostname, port, path: from.path.as_ref().and_then(PathEdit::compile) };
        Self { to, status: from.status_code.unwrap_or(DEFAULT_REDIRECT_STATUS) }
    }

    /// To the same place by TLS, at the port where that is served.
    pub(crate) fn to_tls(port: u16, status: u16) -> Self {
        let (scheme, port) = (Some("https".to_owned()), Some(port));
        Self { to: Destination::Parts { scheme, hostname: None, port, path: None }, status }
    }

    pub(crate) fn to_host(hostname: String, status: u16) -> Self {
        Self { to: Destination::Parts { scheme: None, hostname: Some(hostname), port: None, path: None }, status }
    }

    pub(crate) fn to_path(path: String, status: u16) -> Self {
        let path = Some(PathEdit::Full(path));
        Self { to: Destination::Parts { scheme: None, hostname: None, port: None, path }, status }
    }

    pub(crate) fn to_url(url: UrlTemplate, status: u16) -> Self {
        Self { to: Destination::Url(url), status }
    }

    /// Where the client is sent. `scheme` and `port` are those it used; `prefix` is the path prefix that the rule matched.
    pub fn location(&self, head: &RequestHead<'_>, scheme: &str, port: Option<u16>, prefix: &str) -> String {
        let (to_scheme, hostname, to_port, path) = match &self.to {
            Destination::Parts { scheme, hostname, port, path } => (scheme, hostname, port, path),
            Destination::Url(url) => return url.fill(head, scheme),
        };
        let target = to_scheme.as_deref().unwrap_or(scheme);
        let host = hostname.as_deref().unwrap_or(head.host);
        let path = path.as_ref().map_or_else(|| head.path.to_owned(), |edit| edit.apply(head.path, prefix));
        // Naming a scheme without a port means that scheme's own port.
        let port = to_port.or(if to_scheme.is_some() { None } else { port });
        let well_known = if target == "https" { 443 } else { 80 };
        let port = port.filter(|&port| port != well_known).map(|port| format!(":{port}")).unwrap_or_default();
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{target}://{host}{port}{path}{query}")
    }
}

impl Rewrite {
    fn compile(from: &UrlRewrite) -> Self {
        Self { hostname: from.hostname.clone(), path: from.path.as_ref().and_then(PathEdit::compile) }
    }

    pub(crate) fn new(hostname: Option<String>, path: Option<PathTemplate>) -> Self {
        Self { hostname, path: path.map(PathEdit::Captured) }
    }

    /// The path that the backend is asked for; `None` leaves it as it is.
    pub fn path(&self, path: &str, prefix: &str) -> Option<String> {
        self.path.as_ref().map(|edit| edit.apply(path, prefix))
    }
}

impl PathEdit {
    fn compile(from: &HttpPathModifier) -> Option<Self> {
        match from.kind.as_str() {
            "ReplaceFullPath" => from.replace_full_path.clone().map(Self::Full),
            "ReplacePrefixMatch" => from.replace_prefix_match.clone().map(Self::Prefix),
            _ => None,
        }
    }

    fn apply(&self, path: &str, prefix: &str) -> String {
        match self {
            Self::Full(full) => full.clone(),
            Self::Captured(template) => template.fill(path),
            Self::Prefix(replacement) => {
                let rest = path.strip_prefix(prefix).unwrap_or(path).trim_start_matches('/');
                let start = replacement.trim_end_matches('/');
                match (start.is_empty(), rest.is_empty()) {
                    (true, true) => "/".to_owned(),
                    (false, true) if path.len() > prefix.len() => format!("{start}/"),
                    (false, true) => start.to_owned(),
                    (_, false) => format!("{start}/{rest}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(
        path: &'static str,
        query: Option<&'static str>,
        headers: &'static Vec<(String, String)>,
    ) -> RequestHead<'static> {
        RequestHead { method: "GET", host: "shop.example.com", path, query, headers, received: 0 }
    }

    #[test]
    fn a_prefix_is_replaced_by_whole_segments() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            ("/", "", "/xyz", "/xyz/"),
        ] {
            let found = PathEdit::Prefix(replacement.to_owned()).apply(path, prefix);
            assert_eq!(found, expected, "{path} with {prefix} -> {replacement}");
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        static NONE: Vec<(String, String)> = Vec::new();
        let location = |redirect: RequestRedirect, port| {
            Redirect::compile(&redirect).location(&head("/a/b", Some("q=1"), &NONE), "http", port, "/a")
        };
        let none = RequestRedirect::default();
        assert_eq!(location(none.clone(), Some(8080)), "http://shop.example.com:8080/a/b?q=1");
        assert_eq!(location(none.clone(), Some(80)), "http://shop.example.com/a/b?q=1");
        let https = RequestRedirect { scheme: Some("https".into()), ..none.clone() };
        assert_eq!(location(https.clone(), Some(8080)), "https://shop.example.com/a/b?q=1");
        let port = RequestRedirect { port: Some(8443), hostname: Some("other".into()), ..https };
        assert_eq!(location(port, None), "https://other:8443/a/b?q=1");
        let path = HttpPathModifier {
            kind: "ReplacePrefixMatch".into(),
            replace_prefix_match: Some("/new".into()),
            ..Default::default()
        };
        assert_eq!(location(RequestRedirect { path: Some(path), ..none }, None), "http://shop.example.com/new/b?q=1");
    }

    #[test]
    fn an_unknown_or_empty_filter_is_named() {
        for kind in ["ExtensionRef", "RequestMirror"] {
            let filter = HttpRouteFilter { kind: kind.into(), ..Default::default() };
            assert_eq!(Filters::compile(&[filter]), Err(kind.to_owned()));
        }
    }
}
