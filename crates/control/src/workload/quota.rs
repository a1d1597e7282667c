//! Keeps what quotas say is used.
//!
//! Whatever is stored is counted up in the commit that stores it, so this pass only counts down, and counts a quota for
//! the first time: it reads the quota first and the objects after it, and writes only if the quota is still the one it
//! read. Whatever came meanwhile was counted on that quota, and refuses the write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use sluice_model::quota::{Resource, Tally};
use sluice_model::resources::{self, Amounts};
use tokio::sync::watch;

use super::Error;
use super::apply::{self, Part};
use super::informer::{Change, Key, is_deleted};
use super::pod::is_finished;
use super::queue::{Queue, Wake};
use super::resources::Kind;
use super::world::World;

/// Objects often go together: they are counted together, too.
const SETTLE: Duration = Duration::from_millis(100);
/// How long until a quota is counted though nothing is known to have changed: what a node forgot to end uses nothing.
const RECOUNT: Duration = Duration::from_secs(300);

pub(super) struct Quotas {
    world: Arc<World>,
    kinds: watch::Receiver<Vec<Kind>>,
}

/// Queues quotas that are new or want something else, and those of namespaces where something takes less.
///
/// Returns whom to tell of a namespace that lost an object of any kind.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) -> impl Fn(&str) + Send + Sync + use<> {
    let to = Arc::clone(queue);
    world.quotas.listen(move |change: Change<'_, ResourceQuota>| {
        let asks = |quota: &ResourceQuota| (quota.spec.clone(), hard(quota).cloned());
        if let Some(quota) = change.new.filter(|new| change.old.is_none_or(|old| asks(old) != asks(new))) {
            to.add(Key::of(&**quota));
        }
    });
    let (to, quotas) = (Arc::clone(queue), Arc::clone(&world.quotas));
    let recount = move |namespace: &str| {
        quotas.in_namespace(namespace).iter().for_each(|quota| to.add_within(Key::of(&**quota), SETTLE));
    };
    let of_pods = recount.clone();
    world.pods.listen(move |change: Change<'_, Pod>| {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && is_finished(new)
            && !is_finished(old)
        {
            of_pods(&new.namespace().unwrap_or_default());
        }
    });
    let of_claims = recount.clone();
    world.claims.listen(move |change| {
        change.old.iter().for_each(|claim| of_claims(&claim.namespace().unwrap_or_default()));
    });
    let of_services = recount.clone();
    world.services.listen(move |change| {
        change.old.iter().for_each(|service| of_services(&service.namespace().unwrap_or_default()));
    });
    recount
}

fn hard(quota: &ResourceQuota) -> Option<&BTreeMap<String, Quantity>> {
    quota.status.as_ref()?.hard.as_ref()
}

impl Quotas {
    pub(super) fn new(world: Arc<World>, kinds: watch::Receiver<Vec<Kind>>) -> Self {
        Self { world, kinds }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        if self.kinds.borrow().is_empty() {
            return Ok(Some(SETTLE));
        }
        let api: Api<ResourceQuota> = Api::namespaced(self.world.client.clone(), &key.namespace);
        let Some(quota) = api.get_opt(&key.name).await?.filter(|quota| !is_deleted(quota)) else { return Ok(None) };
        let used = self.count(&quota, &key.namespace).await?;
        let status = status(&quota, &used);
        if quota.status.as_ref().is_some_and(|before| is_same(before, &status)) {
            return Ok(Some(RECOUNT));
        }
        let reported = ResourceQuota { status: Some(status), ..quota.clone() };
        apply::update(&api, &self.world.quotas, Part::Status, &quota, &reported).await?;
        Ok(Some(RECOUNT))
    }

    /// Counts what is there now.
    async fn count(&self, quota: &ResourceQuota, namespace: &str) -> Result<Amounts, Error> {
        let mut tally = Tally::new(&apply::to_json(&quota.spec));
        for resource in tally.resources() {
            let Some(kind) = self.kind_of(&resource) else {
                tally.forget(&resource);
                continue;
            };
            if resource.has_details() {
                let now = Timestamp::now();
                let objects = self.objects(&resource, namespace).await?;
                objects.iter().for_each(|object| tally.count(&resource, object, now));
            } else {
                tally.count_plain(&resource, self.number(&kind, namespace).await?);
            }
        }
        Ok(tally.used())
    }

    fn kind_of(&self, resource: &Resource) -> Option<Kind> {
        let kinds = self.kinds.borrow();
        let is_it = |kind: &&Kind| kind.resource.plural == resource.plural && kind.resource.group == resource.group;
        kinds.iter().find(is_it).filter(|kind| kind.is_namespaced).cloned()
    }

    async fn objects(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, Error> {
        // Everything with details is of the core group.
        let path = format!("/api/v1/namespaces/{namespace}/{}", resource.plural);
        let request = Request::get(path).body(Vec::new()).expect("names of objects make a path");
        let mut list: Value = self.world.client.request(request).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    async fn number(&self, kind: &Kind, namespace: &str) -> Result<i64, Error> {
        let first = kind.api(&self.world.client, namespace).list_metadata(&ListParams::default().limit(1)).await?;
        let listed = i64::try_from(first.items.len()).expect("a page is short");
        Ok(listed + first.metadata.remaining_item_count.unwrap_or(0))
    }
}

fn status(quota: &ResourceQuota, used: &Amounts) -> ResourceQuotaStatus {
    let used = used.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string())));
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    ResourceQuotaStatus { hard: Some(hard.unwrap_or_default()), used: Some(used.collect()) }
}

/// Amounts may be written differently.
fn is_same(one: &ResourceQuotaStatus, other: &ResourceQuotaStatus) -> bool {
    let amounts =
        |status: &ResourceQuotaStatus| [&status.hard, &status.used].map(|list| resources::read(&apply::to_json(list)));
    amounts(one) == amounts(other)
}
