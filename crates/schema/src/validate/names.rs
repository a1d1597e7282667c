//! The formats of names, labels, keys, ports and addresses. Each function answers what is wrong with a text, nothing if
//! it is well formed.

use std::borrow::Cow;

/// What is wrong with a text, one sentence each.
pub(crate) type Problems = Vec<Cow<'static, str>>;

pub(crate) const LABEL_MAX: usize = 63;
pub(crate) const SUBDOMAIN_MAX: usize = 253;
const PORT_NAME_MAX: usize = 15;

const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = r"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = r"a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const WILDCARD: &str = r"a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = r"must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = r"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = r"a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const HTTP_HEADER: &str = r"a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const PERCENT: &str = r"a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn unless(fine: bool, problem: &'static str) -> Problems {
    if fine { Vec::new() } else { vec![Cow::Borrowed(problem)] }
}

fn no_longer_than(text: &str, most: usize) -> Problems {
    if text.len() > most { vec![format!("must be no more than {most} characters").into()] } else { Vec::new() }
}

fn is_lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether a text is made of `inner` and starts and ends with `outer`.
fn framed(text: &str, outer: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [first, .., last] => outer(*first) && outer(*last) && bytes.iter().all(|c| outer(*c) || inner(*c)),
        [only] => outer(*only),
    }
}

fn is_label(text: &str) -> bool {
    framed(text, is_lower, |c| c == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    framed(text, |c| c.is_ascii_alphanumeric(), |c| matches!(c, b'-' | b'_' | b'.'))
}

/// A lowercase RFC 1123 label.
pub(crate) fn label(text: &str) -> Problems {
    let mut problems = no_longer_than(text, LABEL_MAX);
    if !is_label(text) {
        problems.push(Cow::Borrowed(if is_subdomain(text) { "must not contain dots" } else { LABEL }));
    }
    problems
}

/// A lowercase RFC 1123 subdomain.
pub(crate) fn subdomain(text: &str) -> Problems {
    let mut problems = no_longer_than(text, SUBDOMAIN_MAX);
    problems.extend(unless(is_subdomain(text), SUBDOMAIN));
    problems
}

/// A label that starts with a letter.
pub(crate) fn label_1035(text: &str) -> Problems {
    let mut problems = no_longer_than(text, LABEL_MAX);
    problems.extend(unless(is_label(text) && text.as_bytes()[0].is_ascii_lowercase(), LABEL_1035));
    problems
}

/// `*.` and a subdomain.
pub(crate) fn wildcard_subdomain(text: &str) -> Problems {
    let mut problems = no_longer_than(text, SUBDOMAIN_MAX);
    problems.extend(unless(text.strip_prefix("*.").is_some_and(is_subdomain), WILDCARD));
    problems
}

/// The key of a label, an annotation, a taint: `prefix/name` or `name`.
pub(crate) fn qualified(text: &str) -> Problems {
    let mut problems = Problems::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}").into()));
            }
            name
        }
        _ => {
            let qualified = format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            );
            return vec![qualified.into()];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part must be no more than {LABEL_MAX} bytes").into());
    }
    if !is_qualified_part(name) {
        problems.push(format!("name part {QUALIFIED}").into());
    }
    problems
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(format!("must be no more than {LABEL_MAX} bytes").into());
    }
    problems.extend(unless(text.is_empty() || is_qualified_part(text), LABEL_VALUE));
    problems
}

/// A key of a ConfigMap or a Secret.
pub(crate) fn config_key(text: &str) -> Problems {
    let mut problems = no_longer_than(text, SUBDOMAIN_MAX);
    let fine = !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    problems.extend(unless(fine, CONFIG_KEY));
    match text {
        "." => problems.push("must not be '.'".into()),
        ".." => problems.push("must not be '..'".into()),
        text if text.starts_with("..") => problems.push("must not start with '..'".into()),
        _ => {}
    }
    problems
}

/// The name of an environment variable.
pub(crate) fn env_name(text: &str) -> Problems {
    let fine = !text.is_empty() && text.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b'=');
    unless(fine, ENV_NAME)
}

pub(crate) fn http_header(text: &str) -> Problems {
    let fine = !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    unless(fine, HTTP_HEADER)
}

/// `25%`
pub(crate) fn percent(text: &str) -> Problems {
    let digits = text.strip_suffix('%').unwrap_or_default();
    unless(!digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()), PERCENT)
}

/// The name of a port of a container (IANA service name).
pub(crate) fn port_name(text: &str) -> Problems {
    let mut problems = no_longer_than(text, PORT_NAME_MAX);
    if !text.is_empty() && !text.bytes().all(|c| is_lower(c) || c == b'-') || text.is_empty() {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

pub(crate) fn port(number: i64) -> Problems {
    unless((1..=65535).contains(&number), "must be between 1 and 65535, inclusive")
}

/// The id of a user or a group.
pub(crate) fn user_id(number: i64) -> Problems {
    unless((0..=i64::from(i32::MAX)).contains(&number), "must be between 0 and 2147483647, inclusive")
}

/// A name that only has to be one part of a URL path.
pub(crate) fn path_segment(text: &str) -> Problems {
    match text {
        "." => return vec!["may not be '.'".into()],
        ".." => return vec!["may not be '..'".into()],
        _ => {}
    }
    let mut problems = Problems::new();
    if text.contains('/') {
        problems.push("may not contain '/'".into());
    }
    if text.contains('%') {
        problems.push("may not contain '%'".into());
    }
    problems
}

/// The finalizer `name` without a slash must be one of the few that the API itself knows.
pub(crate) fn is_known_finalizer(name: &str) -> bool {
    name.contains('/') || matches!(name, "kubernetes" | "orphan" | "foregroundDeletion")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: fn(&str) -> Problems, fine: &[&str], wrong: &[(&str, &str)]) {
        for text in fine {
            assert_eq!(format(text), Problems::new(), "{text:?}");
        }
        for (text, beginning) in wrong {
            let problems = format(text);
            assert!(problems.iter().any(|p| p.starts_with(beginning)), "{text:?}: {problems:?}");
        }
    }

    #[test]
    fn names_of_objects() {
        check(
            label,
            &["a", "0", "a-b"],
            &[("", "a lowercase"), ("a.b", "must not contain dots"), ("A", "a lowercase")],
        );
        check(subdomain, &["a", "a.b-c.0"], &[("a..b", "a lowercase"), ("-a", "a lowercase"), ("a_b", "a lowercase")]);
        check(label_1035, &["a", "a1"], &[("1a", "a DNS-1035"), ("a.b", "a DNS-1035"), ("", "a DNS-1035")]);
        check(path_segment, &["A:b", "system:node"], &[(".", "may not be"), ("a/b", "may not contain '/'")]);
        check(wildcard_subdomain, &["*.a.b"], &[("a.*", "a wildcard"), ("*", "a wildcard")]);
        check(label, &[], &[(&"a".repeat(64), "must be no more than 63 characters")]);
    }

    #[test]
    fn labels_and_keys() {
        check(
            qualified,
            &["a", "example.com/A_b.c"],
            &[("/a", "prefix part must be"), ("a/", "name part must be non-empty"), ("a/b/c", "a valid label key")],
        );
        check(label_value, &["", "A_b.c"], &[("-", "a valid label must"), ("a b", "a valid label must")]);
        check(
            config_key,
            &["a", ".a", "A_b-c"],
            &[("..", "must not be '..'"), ("..a", "must not start with"), ("/", "a valid")],
        );
        check(env_name, &["A", "a b", "1"], &[("", "a valid"), ("A=B", "a valid"), ("ü", "a valid")]);
    }

    #[test]
    fn ports_and_percentages() {
        check(
            port_name,
            &["http", "a1", "http-2"],
            &[
                ("80", "must contain at least one letter"),
                ("a--b", "must not contain consecutive"),
                ("-a", "must not begin"),
            ],
        );
        check(
            percent,
            &["0%", "250%"],
            &[("25", "a valid percent"), ("%", "a valid percent"), ("-1%", "a valid percent")],
        );
    }
}
