//! One table of annotations and what is read from them, one of what is said.

use super::*;

/// Annotations as `name=value` lines, without the prefix.
fn annotated(lines: &str) -> (Wishes, Vec<String>) {
    let pairs = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once('=').expect("a name and a value");
        (format!("{PREFIX}{name}"), value.to_owned())
    });
    let (wishes, complaints) = read(&pairs.collect());
    let said = complaints.into_iter().map(|complaint| {
        assert!(complaint.message.contains(PREFIX), "{}", complaint.message);
        format!("{}: {}", complaint.reason, complaint.message.replace(PREFIX, ""))
    });
    (wishes, said.collect())
}

fn wished(lines: &str) -> Wishes {
    let (wishes, said) = annotated(lines);
    assert!(said.is_empty(), "{lines}: {said:?}");
    wishes
}

#[test]
fn canaries_are_read_with_their_defaults() {
    let canary = |lines: &str| wished(lines).canary.expect("a canary");
    assert!(wished("canary=false").canary.is_none());
    assert_eq!(canary("canary=true"), Canary::default());
    assert_eq!(canary("canary=true\ncanary-weight=30").weights(), [70, 30]);
    assert_eq!(canary("canary=true\ncanary-weight=30\ncanary-weight-total=1000").weights(), [970, 30]);
    // As in ingress-nginx, a total below 100 is 100.
    assert_eq!(canary("canary=true\ncanary-weight=30\ncanary-weight-total=50").weights(), [70, 30]);
    let by = |value| Some(ByHeader { name: "X-Beta".into(), value });
    for (lines, value) in [
        ("", HeaderValue::AlwaysOrNever),
        ("canary-by-header-value=yes", HeaderValue::Exact("yes".into())),
        ("canary-by-header-pattern=^y", HeaderValue::Pattern("^y".into())),
        ("canary-by-header-value=yes\ncanary-by-header-pattern=^y", HeaderValue::Exact("yes".into())),
    ] {
        let lines = format!("canary=true\ncanary-by-header=X-Beta\n{lines}");
        assert_eq!(canary(&lines).header, by(value), "{lines}");
    }
    assert_eq!(canary("canary=true\ncanary-by-cookie=beta").cookie.as_deref(), Some("beta"));
}

#[test]
fn redirects_have_codes_of_their_own() {
    let redirect = |lines: &str| wished(lines).redirect.map(|(_, code)| code);
    for (lines, expected) in [
        ("permanent-redirect=https://www.example.com", Some(301)),
        ("permanent-redirect=https://www.example.com\npermanent-redirect-code=308", Some(308)),
        ("temporal-redirect=https://$host/x", Some(302)),
        ("temporal-redirect=https://a\ntemporal-redirect-code=307", Some(307)),
        ("", None),
    ] {
        assert_eq!(redirect(lines), expected, "{lines}");
    }
}

#[test]
fn tls_is_wanted_where_it_is_served_unless_told_otherwise() {
    for (lines, expected) in [
        ("", ToTls::WhereServed),
        ("ssl-redirect=true", ToTls::WhereServed),
        ("ssl-redirect=false", ToTls::Never),
        ("force-ssl-redirect=true", ToTls::Always),
        ("force-ssl-redirect=true\nssl-redirect=false", ToTls::Always),
        ("force-ssl-redirect=false", ToTls::WhereServed),
    ] {
        assert_eq!(wished(lines).to_tls, expected, "{lines}");
    }
}

#[test]
fn timeouts_of_nginx_become_one_time_for_an_attempt() {
    let set = |seconds| Timeouts::Set { request: None, backend: Some(Duration::from_secs(seconds)) };
    for (lines, expected) in [
        ("", Timeouts::Unset),
        ("proxy-read-timeout=120", set(180)),
        ("proxy-read-timeout=5\nproxy-send-timeout=10", set(15)),
        ("proxy-send-timeout=300s", set(360)),
    ] {
        assert_eq!(wished(lines).timeouts, expected, "{lines}");
    }
    assert_eq!(wished("proxy-connect-timeout=7").connect, Some(Duration::from_secs(7)));
}

#[test]
fn sharing_with_all_pages_is_never_sharing_what_is_of_one_user() {
    let cors = |lines: &str| wished(&format!("enable-cors=true\n{lines}")).cors.expect("sharing");
    let all = cors("");
    assert_eq!(
        (all.allow_origins, all.allow_credentials, all.max_age),
        (vec!["*".into()], Some(false), Some(1_728_000))
    );
    assert_eq!(all.allow_methods.join(" "), "GET PUT POST DELETE PATCH OPTIONS");
    let some = cors("cors-allow-origin=https://a.example, https://b.example\ncors-allow-methods=GET\ncors-max-age=600");
    assert_eq!((some.allow_origins.len(), some.allow_credentials, some.max_age), (2, Some(true), Some(600)));
    assert_eq!(cors("cors-allow-credentials=true").allow_credentials, Some(true));
    assert!(wished("enable-cors=false").cors.is_none());
}

#[test]
fn sessions_are_by_cookie() {
    let affinity = wished("affinity=cookie").session.expect("sessions");
    assert_eq!((affinity.name.as_str(), affinity.max_age, affinity.path), ("INGRESSCOOKIE", None, None));
    let affinity = wished(
        "affinity=cookie\naffinity-mode=persistent\nsession-cookie-name=route\nsession-cookie-max-age=3600\n\
        session-cookie-path=/shop\nsession-cookie-samesite=Strict\nsession-cookie-secure=true",
    );
    let affinity = affinity.session.expect("sessions");
    assert_eq!((affinity.name.as_str(), affinity.max_age), ("route", Some(Duration::from_secs(3600))));
    assert_eq!(affinity.terms, CookieTerms { same_site: "Strict", secure: Some(true), domain: None });
}

#[test]
fn backends_are_spoken_to_as_told() {
    for (value, expected) in [
        ("HTTP", (Some(Protocol::Http1), false)),
        ("https", (Some(Protocol::Http1), true)),
        ("GRPC", (Some(Protocol::Http2), false)),
        ("GRPCS", (Some(Protocol::Http2), true)),
    ] {
        let wishes = wished(&format!("backend-protocol={value}"));
        assert_eq!((wishes.protocol, wishes.backend_tls), expected, "{value}");
    }
}

#[test]
fn what_keeps_requests_out_lets_nobody_in_while_it_cannot_be_met() {
    for (lines, closed) in [
        ("auth-url=http://auth.example/", true),
        ("auth-type=basic\nauth-secret=users", true),
        ("auth-tls-secret=default/ca", true),
        ("auth-tls-secret=default/ca\nauth-tls-verify-client=off", false),
        ("whitelist-source-range=10.0.0.0/8,nonsense", true),
        ("denylist-source-range=10.0.0.0/33", true),
        ("whitelist-source-range=10.0.0.0/8", false),
    ] {
        assert_eq!(annotated(lines).0.closed.is_some(), closed, "{lines}");
    }
    let sources = wished("whitelist-source-range=10.0.0.0/8, ::1\ndenylist-source-range=10.1.0.0/16").sources;
    assert_eq!((sources.allowed.map(|allowed| allowed.len()), sources.denied.len()), (Some(2), 1));
}

#[test]
fn nothing_is_ignored_without_a_word() {
    for (lines, expected) in [
        (
            "configuration-snippet=more_set_headers",
            "AnnotationIgnored: annotation `configuration-snippet` has no effect with this gateway",
        ),
        ("limit-rps=5", "AnnotationIgnored: annotation `limit-rps` has no effect with this gateway"),
        ("canary-weight=5", "AnnotationIgnored: annotation `canary-weight` has no effect with this gateway"),
        ("cors-max-age=5", "AnnotationIgnored: annotation `cors-max-age` has no effect with this gateway"),
        ("proxy-buffering=on", "AnnotationIgnored: annotation `proxy-buffering` has no effect with this gateway"),
        ("proxy-buffering=off", ""),
        ("canary=yes", "AnnotationInvalid: annotation `canary` has no effect: `yes` is not `true` or `false`"),
        (
            "canary=true\ncanary-weight=101",
            "AnnotationInvalid: annotation `canary-weight` has no effect: `101` is not a number from 0 to 100",
        ),
        (
            "canary=true\ncanary-by-header=x\ncanary-by-header-pattern=(",
            "AnnotationInvalid: annotation `canary-by-header-pattern` has no effect: `(` is not an expression that this gateway takes",
        ),
        (
            "proxy-read-timeout=soon",
            "AnnotationInvalid: annotation `proxy-read-timeout` has no effect: `soon` is not a number of seconds",
        ),
        (
            "permanent-redirect=https://$arg_to",
            "AnnotationInvalid: annotation `permanent-redirect` has no effect: `https://$arg_to` is not a URL with no other \
            variables than $scheme, $host, $uri and $request_uri",
        ),
        (
            "backend-protocol=FCGI",
            "AnnotationInvalid: annotation `backend-protocol` has no effect: `FCGI` is not `HTTP`, `HTTPS`, `GRPC` or `GRPCS`",
        ),
        ("app-root=shop", "AnnotationInvalid: annotation `app-root` has no effect: `shop` is not a path"),
        ("affinity=ip", "AnnotationInvalid: annotation `affinity` has no effect: `ip` is not `cookie`"),
    ] {
        assert_eq!(annotated(lines).1.join("; "), expected, "{lines}");
    }
}

#[test]
fn a_pattern_that_cannot_be_read_does_not_open_the_canary_to_other_words() {
    let (wishes, _) =
        annotated("canary=true\ncanary-by-header=x-beta\ncanary-by-header-pattern=(\ncanary-by-cookie=beta");
    let canary = wishes.canary.expect("a canary");
    assert_eq!((canary.header, canary.cookie.as_deref()), (None, Some("beta")));
}

#[test]
fn annotations_of_others_are_none_of_ours() {
    let others = [("nginx.org/rewrites", "x"), ("kubernetes.io/ingress.class", "sluice"), ("team", "web")];
    let others = others.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read(&others.into()).1, []);
}
