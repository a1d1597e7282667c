//! The Rollouts that say how large the revisions of a Deployment shall be.

use kube::core::{ApiResource, GroupVersionKind, Object};
use sluice_model::rollout::{GROUP, RolloutSpec, RolloutStatus, VERSION};

pub(super) type Rollout = Object<RolloutSpec, RolloutStatus>;

pub(super) fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, "Rollout"), "rollouts")
}
