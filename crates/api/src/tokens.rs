//! Bearer tokens: the administrator's, and those of service accounts, which the server signs and takes back.

mod jwt;

use std::fmt;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::identity::Identity;
use crate::object::Object;
use crate::random;
use crate::server::Server;

/// Who signs, and whom tokens are for when nobody says.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Where in the claims the parts of the cluster stand that a token is bound to.
const BOUND: &str = "kubernetes.io";

pub(crate) struct Tokens {
    admin: String,
    key: [u8; 32],
}

/// What a token is for.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a Value,
    pub(crate) audiences: &'a [String],
    pub(crate) seconds: i64,
    /// The kind in lower case and the object, if the token ends with it.
    pub(crate) bound: Option<(&'a str, &'a Value)>,
}

/// A token that holds: who it is, and for whom it was made.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) user: Identity,
    pub(crate) audiences: Vec<String>,
}

/// Why a token does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("invalid bearer token")]
    Unknown,
    #[error("[invalid bearer token, {0}]")]
    Refused(String),
}

impl Tokens {
    /// The key that signs follows from the administrator's token, so it is as old and as secret as that.
    pub(crate) fn new(admin: Option<String>) -> Self {
        let admin = admin.unwrap_or_else(random::token);
        let key = Sha256::digest(format!("service account tokens of {admin}").as_bytes()).into();
        Self { admin, key }
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Signs a token. Also answers when it ends.
    pub(crate) fn sign(&self, grant: &Grant<'_>) -> (String, Timestamp) {
        let now = Timestamp::now().as_second();
        let end = now + grant.seconds;
        let name = grant.account.name();
        let mut bound = json!({"namespace": grant.namespace,
                               "serviceaccount": {"name": name, "uid": grant.account.uid()}});
        if let Some((kind, object)) = grant.bound {
            bound[kind] = json!({"name": object.name(), "uid": object.uid()});
        }
        let claims = json!({"aud": grant.audiences, "exp": end, "iat": now, "nbf": now, "iss": ISSUER, "jti": random::uid(),
                            "sub": format!("system:serviceaccount:{}:{name}", grant.namespace), BOUND: bound});
        (jwt::sign(&self.key, &claims), Timestamp::from_second(end).unwrap_or(Timestamp::MAX))
    }
}

/// Whose token this is, if it is for one of these audiences.
pub(crate) fn check(server: &Server, token: &str, audiences: &[String]) -> Result<Known, TokenError> {
    let tokens = &server.inner.tokens;
    if same(token, &tokens.admin) {
        return Ok(Known { user: Identity::system("sluice:admin"), audiences: audiences.to_vec() });
    }
    let claims = jwt::read(&tokens.key, token).ok_or(TokenError::Unknown)?;
    let own: Vec<String> =
        claims["aud"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let common: Vec<String> = audiences.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if common.is_empty() {
        let list = |all: &[String]| all.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(" ");
        let why = format!("token audiences [{}] is invalid for the target audiences [{}]", list(&own), list(audiences));
        return Err(TokenError::Refused(why));
    }
    if claims["exp"].as_i64().is_none_or(|end| end <= Timestamp::now().as_second()) {
        return Err(TokenError::Refused("service account token has expired".into()));
    }
    Ok(Known { user: holder(server, &claims)?, audiences: common })
}

/// The account of a token, if it and everything the token is bound to are still there.
fn holder(server: &Server, claims: &Value) -> Result<Identity, TokenError> {
    let bound = &claims[BOUND];
    let namespace = bound.text("/namespace");
    let (name, uid) = (bound.text("/serviceaccount/name"), bound.text("/serviceaccount/uid"));
    let refuse = |why: &str| Err(TokenError::Refused(why.to_owned()));
    let Some(account) = live(server, "serviceaccounts", namespace, name) else {
        return refuse("service account token has been invalidated");
    };
    if account != uid {
        return refuse(&format!("service account UID ({account}) does not match claim ({uid})"));
    }
    let mut user = Identity::service_account(namespace, name, uid);
    user.extra
        .insert("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={}", claims.text("/jti"))]);
    for (kind, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
        let (name, uid) = (bound[kind].text("/name"), bound[kind].text("/uid"));
        if name.is_empty() {
            continue;
        }
        if live(server, plural, namespace, name).as_deref() != Some(uid) {
            return refuse("service account token has been invalidated");
        }
        if kind != "secret" {
            user.extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.to_owned()]);
            user.extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.to_owned()]);
        }
    }
    Ok(user)
}

/// The uid of an object of the core group that is there and not on its way out.
fn live(server: &Server, plural: &str, namespace: &str, name: &str) -> Option<String> {
    let kind = server.registry().kinds().find("", "v1", plural)?;
    let entry = server.storage().get_by(&kind, namespace, name)?;
    let object = entry.value();
    // A pod may use its token while it stops.
    let going = object.being_deleted() && plural != "pods";
    (!going).then(|| object.uid().to_owned())
}

/// Compares digests, so that the time taken says nothing about the token.
fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()) == Sha256::digest(b.as_bytes())
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}
