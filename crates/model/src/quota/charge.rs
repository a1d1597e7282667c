//! Whether the quotas of a namespace have room for an object, and what they count once it is there.

use jiff::Timestamp;
use serde_json::Value;

use super::{Quota, Resource};
use crate::resources::{self, Amounts};

/// An object that somebody wants to write.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub resource: &'a Resource,
    pub object: &'a Value,
    /// Its state before; none for a new one.
    pub before: Option<&'a Value>,
    pub now: Timestamp,
}

/// What a quota counts once the object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The place of the quota among those that were asked.
    pub quota: usize,
    pub used: Amounts,
}

/// The quotas that count more than before; or why one of them refuses, in the words of a real server.
pub fn charge(request: Request<'_>, quotas: &[Quota]) -> Result<Vec<Charge>, String> {
    let Request { resource, object, before, now } = request;
    if before.is_some() && !resource.grows() {
        return Ok(vec![]);
    }
    let mut counting = Vec::new();
    for (index, quota) in quotas.iter().enumerate() {
        let names: Vec<&str> = quota.hard.keys().map(String::as_str).filter(|name| resource.tracks(name)).collect();
        if names.is_empty() || !quota.scopes.iter().all(|scope| scope.holds(resource, object)) {
            continue;
        }
        can_count(resource, object, quota, &names)?;
        counting.push(index);
    }
    let mut more = resource.usage(object, now);
    if let Some(before) = before {
        let earlier = resource.usage(before, now);
        more.iter_mut().for_each(|(name, amount)| {
            *amount = earlier.get(name).map_or(*amount, |earlier| *amount - *earlier);
        });
    }
    more.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
    let charges = counting.into_iter().map(|index| room(&quotas[index], &more).map(|used| (index, used)));
    let charges = charges.collect::<Result<Vec<_>, String>>()?;
    Ok(charges.into_iter().filter_map(|(quota, used)| used.map(|used| Charge { quota, used })).collect())
}

/// Whether the object says what the quota counts, and the quota knows what is used.
fn can_count(resource: &Resource, object: &Value, quota: &Quota, names: &[&str]) -> Result<(), String> {
    let missing = resource.missing(names, object);
    if !missing.is_empty() {
        let parts = missing.into_iter().map(|(name, containers)| {
            let containers: Vec<_> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        });
        let parts: Vec<_> = parts.collect();
        return Err(format!("failed quota: {}: must specify {}", quota.name, parts.join("; ")));
    }
    if names.iter().any(|name| !quota.used.contains_key(*name)) {
        return Err(format!("status unknown for quota: {}, resources: {}", quota.name, names.join(",")));
    }
    Ok(())
}

/// What the quota counts afterwards; none when this does not concern it.
fn room(quota: &Quota, more: &Amounts) -> Result<Option<Amounts>, String> {
    let asked = masked(more, |name| quota.hard.contains_key(name));
    if asked.is_empty() {
        return Ok(None);
    }
    let mut used = quota.used.clone();
    resources::add(&mut used, &asked);
    let exceeded = |name: &str| asked.contains_key(name) && used[name] > quota.hard[name];
    let requested = masked(&asked, exceeded);
    if requested.is_empty() {
        return Ok(Some(used));
    }
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name,
        shown(&requested),
        shown(&masked(&quota.used, exceeded)),
        shown(&masked(&quota.hard, exceeded)),
    ))
}

fn masked(amounts: &Amounts, keep: impl Fn(&str) -> bool) -> Amounts {
    amounts.iter().filter(|(name, _)| keep(name)).map(|(name, amount)| (name.clone(), *amount)).collect()
}

fn shown(amounts: &Amounts) -> String {
    let parts: Vec<_> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(",")
}
