//! Fills secrets that ask for a token of a service account, and deletes them with the account.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};

use super::Error;
use super::apply::{self, Part};
use super::informer::{Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// Such tokens end with their secret; this is the longest time that can be asked for.
const SECONDS: i64 = 1 << 32;

pub(super) struct TokenSecrets {
    world: Arc<World>,
    ca_pem: String,
}

/// Queues these secrets when they or their accounts change.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.token_secrets.listen(move |change| change.new.iter().for_each(|secret| to.add(Key::of(&***secret))));
    let (to, secrets) = (Arc::clone(queue), Arc::clone(&world.token_secrets));
    world.accounts.listen(move |change| {
        for account in change.states() {
            let name = account.name_any();
            for secret in secrets.in_namespace(&account.namespace().unwrap_or_default()) {
                if secret.annotations().get(NAME) == Some(&name) {
                    to.add(Key::of(&*secret));
                }
            }
        }
    });
}

/// What becomes of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Nothing,
    /// It is for an account that is not there.
    Delete,
    Fill {
        needs_token: bool,
    },
}

fn decide(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str) -> Decision {
    if secret.type_.as_deref() != Some(TYPE) || is_deleted(secret) {
        return Decision::Nothing;
    }
    let Some(account) = account.filter(|account| !is_deleted(*account)) else { return Decision::Delete };
    let (own, uid) = (secret.annotations().get(UID), account.uid().unwrap_or_default());
    if own.is_some_and(|own| !own.is_empty() && *own != uid) {
        return Decision::Delete;
    }
    let field = |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).map(|value| value.0.as_slice());
    let has = |name: &str| field(name).is_some_and(|value| !value.is_empty());
    let is_full = has("namespace") && field("ca.crt") == Some(ca_pem.as_bytes()) && own == Some(&uid);
    match has("token") {
        true if is_full => Decision::Nothing,
        has_token => Decision::Fill { needs_token: !has_token },
    }
}

impl TokenSecrets {
    pub(super) fn new(world: Arc<World>, ca_pem: String) -> Self {
        Self { world, ca_pem }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(secret) = self.world.token_secrets.get(&key) else { return Ok(None) };
        let account = self.account(&secret).await?;
        let api: Api<Secret> = Api::namespaced(self.world.client.clone(), &key.namespace);
        match decide(&secret, account.as_ref(), &self.ca_pem) {
            Decision::Nothing => {}
            Decision::Delete => apply::delete(&api, &self.world.token_secrets, &*secret).await?,
            Decision::Fill { needs_token } => {
                let account = account.expect("only secrets of accounts are filled");
                let token = if needs_token { Some(self.token(&account, &secret).await?) } else { None };
                let filled = self.filled(&secret, &account, token);
                apply::update(&api, &self.world.token_secrets, Part::Main, &*secret, &filled).await?;
            }
        }
        Ok(None)
    }

    /// A secret is deleted for good, so the absence of its account is asked for.
    async fn account(&self, secret: &Secret) -> Result<Option<ServiceAccount>, Error> {
        let namespace = secret.namespace().unwrap_or_default();
        let name = secret.annotations().get(NAME).cloned().unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.world.accounts.get(&Key::new(namespace.clone(), name.clone())) {
            return Ok(Some((*known).clone()));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.world.client.clone(), &namespace);
        Ok(api.get_opt(&name).await?)
    }

    /// A token that holds as long as the secret is there.
    async fn token(&self, account: &ServiceAccount, secret: &Secret) -> Result<String, Error> {
        let api: Api<ServiceAccount> =
            Api::namespaced(self.world.client.clone(), &secret.namespace().unwrap_or_default());
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Secret".into()),
            name: secret.metadata.name.clone(),
            uid: secret.metadata.uid.clone(),
        };
        let spec =
            TokenRequestSpec { audiences: vec![], bound_object_ref: Some(bound), expiration_seconds: Some(SECONDS) };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answered = api.create_token_request(&account.name_any(), &PostParams::default(), &request).await?;
        Ok(answered.status.map(|status| status.token).unwrap_or_default())
    }

    fn filled(&self, secret: &Secret, account: &ServiceAccount, token: Option<String>) -> Secret {
        let mut filled = secret.clone();
        let namespace = secret.namespace().unwrap_or_default();
        let data = filled.data.get_or_insert_with(BTreeMap::new);
        let fields = [("ca.crt", Some(self.ca_pem.clone())), ("namespace", Some(namespace)), ("token", token)];
        for (name, value) in fields {
            data.extend(value.map(|value| (name.to_owned(), ByteString(value.into_bytes()))));
        }
        filled.annotations_mut().insert(UID.into(), account.uid().unwrap_or_default());
        filled
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The secret says these fields and this uid of its account, whose uid is `u`.
    fn check(fields: &[(&str, &str)], uid: &str, has_account: bool, expected: Decision) {
        let data = fields.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())));
        let annotations = [(NAME, "bot"), (UID, uid)].into_iter().filter(|(_, value)| !value.is_empty());
        let annotations: Value = annotations.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let mut secret: Secret =
            serde_json::from_value(json!({"type": TYPE, "metadata": {"annotations": annotations}})).unwrap();
        secret.data = Some(data.collect());
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "bot", "uid": "u"}})).unwrap();
        let account = has_account.then_some(&account);
        assert_eq!(decide(&secret, account, "CA"), expected, "{fields:?} {uid}");
    }

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let full = [("token", "t"), ("ca.crt", "CA"), ("namespace", "n")];
        check(&[], "", true, Decision::Fill { needs_token: true });
        check(&full, "u", true, Decision::Nothing);
        check(&full[..2], "u", true, Decision::Fill { needs_token: false });
        check(
            &[("token", "t"), ("ca.crt", "old"), ("namespace", "n")],
            "u",
            true,
            Decision::Fill { needs_token: false },
        );
        check(&full, "", true, Decision::Fill { needs_token: false });
        check(&full, "of another account of this name", true, Decision::Delete);
        check(&full, "u", false, Decision::Delete);
    }
}
