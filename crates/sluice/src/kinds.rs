//! From what a user types (`deploy`, `pods`, `rollouts.sluice.dev`) to the resource it means, by asking the API.

use anyhow::Context as _;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use sluice_model::rollout::{GROUP, VERSION};

/// A kind of our own group.
pub(crate) fn ours(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind))
}

/// A resource the API serves.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    names: Vec<String>,
}

impl Served {
    /// All objects of the kind: of this namespace, or of the cluster where the kind has none.
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

/// What a user types for a kind, and perhaps for one object of it: `deploy`, `deploy/shop`.
pub(crate) fn kind_and_name(typed: &str) -> (&str, Option<&str>) {
    typed.split_once('/').map_or((typed, None), |(kind, name)| (kind, Some(name)))
}

pub(crate) struct Kinds(Vec<Served>);

impl Kinds {
    pub(crate) async fn ask(client: &Client) -> anyhow::Result<Self> {
        let core = client.list_core_api_versions_aggregated().await.context("cannot ask the API what it serves")?;
        let groups = client.list_api_groups_aggregated().await.context("cannot ask the API what it serves")?;
        let mut served = Vec::new();
        for group in core.items.into_iter().chain(groups.items) {
            let name = group.metadata.and_then(|m| m.name).unwrap_or_default();
            // The preferred version comes first.
            for version in group.versions {
                let version_name = version.version.unwrap_or_default();
                for resource in version.resources {
                    let kind = resource.response_kind.and_then(|k| k.kind).unwrap_or_default();
                    let plural = resource.resource.unwrap_or_default();
                    let mut names = resource.short_names;
                    names.extend(resource.singular_resource);
                    names.extend([kind.to_lowercase(), plural.clone()]);
                    served.push(Served {
                        resource: ApiResource {
                            api_version: if name.is_empty() {
                                version_name.clone()
                            } else {
                                format!("{name}/{version_name}")
                            },
                            group: name.clone(),
                            version: version_name.clone(),
                            kind,
                            plural,
                        },
                        namespaced: resource.scope.as_deref() == Some("Namespaced"),
                        names,
                    });
                }
            }
        }
        Ok(Self(served))
    }

    /// `deploy`, `Deployment`, `deployments.apps`.
    pub(crate) fn find(&self, typed: &str) -> anyhow::Result<&Served> {
        let typed = typed.to_lowercase();
        let (name, group) = typed.split_once('.').unwrap_or((&typed, ""));
        self.0
            .iter()
            .find(|s| s.names.iter().any(|n| n == name) && (group.is_empty() || s.resource.group == group))
            .with_context(|| format!("the API serves no kind `{typed}`"))
    }

    pub(crate) fn of(&self, api_version: &str, kind: &str) -> anyhow::Result<&Served> {
        self.0
            .iter()
            .find(|s| s.resource.api_version == api_version && s.resource.kind == kind)
            .with_context(|| format!("the API serves no kind `{kind}` in `{api_version}`"))
    }
}
