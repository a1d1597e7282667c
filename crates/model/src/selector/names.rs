//! Which texts may be keys and values of labels, and what is said of those that may not.

/// Longest value, and longest name part of a key.
const NAME_MAX: usize = 63;
/// Longest prefix part of a key.
const PREFIX_MAX: usize = 253;

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What is wrong with a key, printed for the field `path`.
pub(super) fn key_fault(path: &str, key: &str) -> Option<String> {
    let faults = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => name_faults(name),
        [prefix, name] => [prefix_faults(prefix), name_faults(name)].concat(),
        _ => vec![format!(
            "a valid label key {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )],
    };
    (!faults.is_empty()).then(|| format!("{path}: Invalid value: {key:?}: {}", faults.join("; ")))
}

/// What is wrong with a value.
pub(super) fn value_fault(path: &str, value: &str) -> Option<String> {
    let mut faults = Vec::new();
    if value.len() > NAME_MAX {
        faults.push(format!("must be no more than {NAME_MAX} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        faults.push(VALUE_RULE.to_owned());
    }
    (!faults.is_empty()).then(|| format!("{path}: Invalid value: {value:?}: {}", faults.join("; ")))
}

fn name_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > NAME_MAX {
        faults.push(format!("name part must be no more than {NAME_MAX} bytes"));
    }
    if !is_name(name) {
        faults.push(format!("name part {NAME_RULE}"));
    }
    faults
}

fn prefix_faults(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["prefix part must be non-empty".to_owned()];
    }
    let mut faults = Vec::new();
    if prefix.len() > PREFIX_MAX {
        faults.push(format!("prefix part must be no more than {PREFIX_MAX} bytes"));
    }
    if !prefix.split('.').all(is_dns_label) {
        faults.push(format!("prefix part {PREFIX_RULE}"));
    }
    faults
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(inner) && ends_are(text, |c| c.is_ascii_alphanumeric())
}

fn is_dns_label(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.chars().all(|c| outer(c) || c == '-') && ends_are(text, outer)
}

fn ends_are(text: &str, good: impl Fn(char) -> bool) -> bool {
    text.starts_with(&good) && text.ends_with(good)
}
