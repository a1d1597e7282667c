//! What the claims of a pod say to its scheduling.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};

use super::super::apply::{self, Part};
use super::super::volumes::{SELECTED_NODE, claims_of, class_of, is_bound, waits_for_consumer};
use super::{Error, Key, World};

pub(super) enum Claims {
    /// All have their volumes.
    Ready,
    /// These get theirs where the pod goes.
    Following(Vec<Arc<PersistentVolumeClaim>>),
    /// Whatever the node: why.
    Missing(String),
}

/// Claims that are not there, or not bound, hold a pod back whatever the node.
pub(super) fn of(world: &World, pod: &Pod) -> Claims {
    let mut following = Vec::new();
    for name in claims_of(pod) {
        let Some(claim) = world.claims.get(&Key::new(pod.namespace().unwrap_or_default(), name)) else {
            return Claims::Missing(format!("persistentvolumeclaim \"{name}\" not found"));
        };
        if is_bound(&claim) {
            continue;
        }
        if !waits_for_consumer(world.classes.get(&Key::new("", class_of(&claim))).as_deref()) {
            return Claims::Missing("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        following.push(claim);
    }
    if following.is_empty() { Claims::Ready } else { Claims::Following(following) }
}

/// Tells the claims which node it is to be. The pod waits until they are bound.
pub(super) async fn select_node(world: &World, claims: &[Arc<PersistentVolumeClaim>], node: &str) -> Result<(), Error> {
    for claim in claims {
        let mut selected = (**claim).clone();
        selected.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.to_owned(), node.to_owned());
        let api = Api::namespaced(world.client.clone(), &claim.namespace().unwrap_or_default());
        apply::update(&api, &world.claims, Part::Main, &**claim, &selected).await?;
    }
    Ok(())
}
