//! Tokens of service accounts: what a pod proves itself with to the API, renewed before they end.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection},
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

const DEFAULT_SECONDS: i64 = 3600;
/// A token is renewed when this share of its life is over, in percent, or after a day.
const RENEW_AT_PERCENT: u32 = 80;
const RENEW_AFTER_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// The tokens of one pod, by what was asked for.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    held: BTreeMap<Wish, Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    audience: Option<String>,
    seconds: i64,
}

#[derive(Debug)]
struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Wish {
    fn of(source: &ServiceAccountTokenProjection) -> Self {
        let audience = source.audience.clone().filter(|audience| !audience.is_empty());
        Self { audience, seconds: source.expiration_seconds.unwrap_or(DEFAULT_SECONDS) }
    }
}

impl Tokens {
    /// Asks for the tokens that the pod's volumes want and that are not there, or not for long any more.
    pub(super) async fn refresh(&mut self, client: &Client, pod: &Pod, now: Timestamp) -> Result<(), kube::Error> {
        for wish in wishes(pod) {
            if self.held.get(&wish).is_some_and(|token| token.renew_at > now) {
                continue;
            }
            if let Some(token) = request(client, pod, &wish, now).await? {
                self.held.insert(wish, token);
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, source: &ServiceAccountTokenProjection) -> Option<&str> {
        self.held.get(&Wish::of(source)).map(|token| token.text.as_str())
    }

    /// How long until a token has to be renewed.
    pub(super) fn renew_in(&self, now: Timestamp) -> Option<Duration> {
        let next = self.held.values().map(|token| token.renew_at).min()?;
        Some(if next > now { next.duration_since(now).unsigned_abs() } else { Duration::ZERO })
    }

    #[cfg(test)]
    pub(super) fn holding(source: &ServiceAccountTokenProjection, text: &str) -> Self {
        Self { held: [(Wish::of(source), Token { text: text.to_owned(), renew_at: Timestamp::MAX })].into() }
    }
}

fn wishes(pod: &Pod) -> Vec<Wish> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources =
        volumes.flat_map(|volume| volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()));
    sources.filter_map(|source| source.service_account_token.as_ref()).map(Wish::of).collect()
}

/// The token is bound to the pod: it ends with it.
async fn request(client: &Client, pod: &Pod, wish: &Wish, now: Timestamp) -> Result<Option<Token>, kube::Error> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".to_owned());
    let api = Api::<ServiceAccount>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: wish.audience.iter().cloned().collect(),
            expiration_seconds: Some(wish.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let answer = api.create_token_request(&account, &PostParams::default(), &request).await?;
    Ok(answer.status.map(|status| {
        let life = status.expiration_timestamp.0.duration_since(now).unsigned_abs();
        Token { text: status.token, renew_at: now + (life * RENEW_AT_PERCENT / 100).min(RENEW_AFTER_AT_MOST) }
    }))
}
