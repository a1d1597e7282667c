//! Who asks.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::request::unescape;

pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";
const MASTERS: &str = "system:masters";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// A user as the API knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// An authenticated user.
    pub fn user(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        groups.push(AUTHENTICATED.into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Somebody who may do everything: the parts of the engine itself.
    pub fn system(name: impl Into<String>) -> Self {
        Self::user(name, [MASTERS])
    }

    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let account = format!("system:serviceaccount:{namespace}:{name}");
        let groups = [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        Self { uid: uid.to_owned(), ..Self::user(account, groups) }
    }

    pub(crate) fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }

    /// `status.userInfo` of a SelfSubjectReview and `status.user` of a TokenReview.
    pub(crate) fn to_json(&self) -> Value {
        let mut user = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            user["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }

    /// The user that the `Impersonate-*` headers ask to be, or this one.
    pub(crate) fn impersonating(self, headers: &HeaderMap) -> Result<Self, Refusal> {
        let name = header(headers, "impersonate-user");
        let uid = header(headers, "impersonate-uid");
        let groups: Vec<String> = values(headers, "impersonate-group");
        let extra = extras(headers);
        if name.is_empty() {
            return if groups.is_empty() && uid.is_empty() && extra.is_empty() {
                Ok(self)
            } else {
                Err(without_user(&uid, &groups, &extra))
            };
        }
        Ok(Self { groups: effective_groups(&name, groups), name, uid, extra })
    }
}

/// The groups of an impersonated user: what everybody in their place would have, too.
fn effective_groups(name: &str, mut groups: Vec<String>) -> Vec<String> {
    if groups.is_empty()
        && let Some((namespace, _)) = name.strip_prefix("system:serviceaccount:").and_then(valid_account)
    {
        groups = vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let has = |wanted: &str, groups: &[String]| groups.iter().any(|group| group == wanted);
    if name == ANONYMOUS {
        if !has(UNAUTHENTICATED, &groups) {
            groups.push(UNAUTHENTICATED.into());
        }
    } else if !has(AUTHENTICATED, &groups) && !has(UNAUTHENTICATED, &groups) {
        groups.push(AUTHENTICATED.into());
    }
    groups
}

/// `NAMESPACE:NAME`, both non-empty names.
fn valid_account(account: &str) -> Option<(&str, &str)> {
    let (namespace, name) = account.split_once(':')?;
    let valid = |text: &str, dots: bool| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
        !text.is_empty() && text.chars().all(inner) && !text.starts_with(['-', '.']) && !text.ends_with(['-', '.'])
    };
    (valid(namespace, false) && valid(name, true)).then_some((namespace, name))
}

fn without_user(uid: &str, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> Refusal {
    // The words of the real server: Go's print of the references it made of the headers.
    let mut asked: Vec<String> = groups.iter().map(|group| format!("{{Group  {group}    }}")).collect();
    for (key, values) in extra {
        asked.extend(values.iter().map(|value| format!("{{UserExtra  {value}  authentication.k8s.io/v1  {key}}}")));
    }
    if !uid.is_empty() {
        asked.push(format!("{{UID  {uid}  authentication.k8s.io/v1  }}"));
    }
    Refusal::bad(format!("requested [{}] without impersonating a user", asked.join(" ")))
}

fn extras(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix("impersonate-extra-") else { continue };
        let key = unescape(key, false).unwrap_or_else(|| key.to_owned());
        extra.entry(key).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    extra
}

fn header(headers: &HeaderMap, name: &str) -> String {
    values(headers, name).into_iter().next().unwrap_or_default()
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}
