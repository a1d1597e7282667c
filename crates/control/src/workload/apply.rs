//! Writes carry the revision they were decided on: a late writer is refused.

use std::fmt::Debug;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Error;
use super::error::status_code;
use super::informer::{Cache, Key};

const MANAGER: &str = "sluice-control";

/// The part of an object that a write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
}

/// Writes what differs between two states of one object, and waits until that is seen; none when nothing does.
pub(crate) async fn update<K>(api: &Api<K>, cache: &Cache<K>, part: Part, old: &K, new: &K) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (old_json, new_json) = (to_json(old), to_json(new));
    let Some(mut patch) = difference(&old_json, &new_json) else { return Ok(None) };
    patch["metadata"]["uid"] = json!(old.meta().uid);
    patch["metadata"]["resourceVersion"] = json!(old.meta().resource_version);
    let name = old.meta().name.as_deref().unwrap_or_default();
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch);
    let written = match part {
        Part::Main => api.patch(name, &params, &patch).await?,
        Part::Status => api.patch_status(name, &params, &patch).await?,
    };
    cache.has_seen(&written).await?;
    Ok(Some(written))
}

/// Deletes this very object, and waits until it is seen to be going. One that is gone already is as good.
pub(crate) async fn delete<K>(api: &Api<K>, cache: &Cache<K>, object: &K) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    match api.delete(&object.name_any(), &only(object)).await {
        Ok(_) => cache.has_lost(&Key::of(object), &object.uid().unwrap_or_default()).await,
        Err(error) if status_code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Spares another object of the same name.
pub(crate) fn only<K: Resource>(object: &K) -> DeleteParams {
    let same = Preconditions { uid: object.uid(), resource_version: None };
    DeleteParams { preconditions: Some(same), ..DeleteParams::default() }
}

pub(crate) fn to_json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("API objects are plain data")
}

/// The merge patch that makes one state of the other.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        match old.get(name).map_or_else(|| Some(value.clone()), |old| difference(old, value)) {
            Some(part) => patch.insert(name.clone(), part),
            None => continue,
        };
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_smallest_merge_patch() {
        let old = json!({"a": 1, "b": {"c": [1], "d": 2}, "gone": {"x": 1}, "same": [1, 2]});
        let new = json!({"a": 2, "b": {"c": [1, 2], "d": 2}, "same": [1, 2], "new": {"y": 1}});
        let expected = json!({"a": 2, "b": {"c": [1, 2]}, "gone": null, "new": {"y": 1}});
        assert_eq!(difference(&old, &new), Some(expected));
        assert_eq!(difference(&old, &old), None);
    }
}
