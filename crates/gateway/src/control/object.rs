//! The resources that the gateway watches, as little of each as it needs.
//!
//! Specs stay untyped until they are looked at one by one: an object that cannot be read is then one object that is not served,
//! and not a list that cannot be decoded.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::ByteString;
use kube::core::{DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_model::gateway;
use sluice_model::ingress;
use sluice_model::rollout;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    GatewayClasses,
    Gateways,
    ListenerSets,
    HttpRoutes,
    IngressClasses,
    Ingresses,
    ReferenceGrants,
    BackendTlsPolicies,
    Namespaces,
    Services,
    EndpointSlices,
    Pods,
    Rollouts,
    Secrets,
    ConfigMaps,
}

impl Resource {
    /// Those of which everything is watched; of the others only what these refer to.
    pub(crate) const ALL: [Self; 13] = [
        Self::GatewayClasses,
        Self::Gateways,
        Self::ListenerSets,
        Self::HttpRoutes,
        Self::IngressClasses,
        Self::Ingresses,
        Self::ReferenceGrants,
        Self::BackendTlsPolicies,
        Self::Namespaces,
        Self::Services,
        Self::EndpointSlices,
        Self::Pods,
        Self::Rollouts,
    ];

    /// Group, version, kind and plural.
    pub(crate) fn names(self) -> [&'static str; 4] {
        match self {
            Self::GatewayClasses => [gateway::GROUP, gateway::VERSION, "GatewayClass", "gatewayclasses"],
            Self::Gateways => [gateway::GROUP, gateway::VERSION, "Gateway", "gateways"],
            Self::ListenerSets => [gateway::GROUP, gateway::VERSION, "ListenerSet", "listenersets"],
            Self::HttpRoutes => [gateway::GROUP, gateway::VERSION, "HTTPRoute", "httproutes"],
            Self::IngressClasses => [ingress::GROUP, ingress::VERSION, "IngressClass", "ingressclasses"],
            Self::Ingresses => [ingress::GROUP, ingress::VERSION, "Ingress", "ingresses"],
            Self::ReferenceGrants => [gateway::GROUP, "v1beta1", "ReferenceGrant", "referencegrants"],
            Self::BackendTlsPolicies => [gateway::GROUP, gateway::VERSION, "BackendTLSPolicy", "backendtlspolicies"],
            Self::Namespaces => ["", "v1", "Namespace", "namespaces"],
            Self::Secrets => ["", "v1", "Secret", "secrets"],
            Self::ConfigMaps => ["", "v1", "ConfigMap", "configmaps"],
            Self::Services => ["", "v1", "Service", "services"],
            Self::EndpointSlices => ["discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"],
            Self::Pods => ["", "v1", "Pod", "pods"],
            Self::Rollouts => [rollout::GROUP, rollout::VERSION, "Rollout", "rollouts"],
        }
    }

    pub(crate) fn is_read_where_wanted(self) -> bool {
        matches!(self, Self::Secrets | Self::ConfigMaps)
    }

    /// Its word in the Lease and in paths.
    pub(crate) fn plural(self) -> &'static str {
        self.names()[3]
    }
}

/// An object with everything that any of the resources is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Whole {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: Value,
    #[serde(default)]
    pub(crate) status: Value,
    /// Of EndpointSlices.
    #[serde(default)]
    pub(crate) ports: Value,
    /// Of EndpointSlices.
    #[serde(default)]
    pub(crate) endpoints: Value,
}

/// An object whose metadata says it all: a Pod or a Namespace. The rest is skipped while decoding.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bare {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
}

/// A Secret of type `kubernetes.io/tls`. Whatever else it holds is skipped while decoding.
#[derive(Clone, Deserialize)]
pub(crate) struct TlsSecret {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) data: TlsData,
}

#[derive(Clone, Default, Deserialize)]
pub(crate) struct TlsData {
    #[serde(rename = "tls.crt", default)]
    pub(crate) chain: ByteString,
    #[serde(rename = "tls.key", default)]
    pub(crate) key: ByteString,
}

/// A ConfigMap that holds certificates of authorities. Whatever else it holds is skipped while decoding.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CaConfigMap {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) data: CaData,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct CaData {
    #[serde(rename = "ca.crt", default)]
    pub(crate) authorities: Option<String>,
}

/// Without anything that is secret: annotations may repeat the data.
impl fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSecret").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

macro_rules! resource {
    ($($object:ty),*) => {$(
        impl kube::Resource for $object {
            type DynamicType = Resource;
            type Scope = DynamicResourceScope;

            fn kind(resource: &Resource) -> Cow<'_, str> {
                resource.names()[2].into()
            }

            fn group(resource: &Resource) -> Cow<'_, str> {
                resource.names()[0].into()
            }

            fn version(resource: &Resource) -> Cow<'_, str> {
                resource.names()[1].into()
            }

            fn plural(resource: &Resource) -> Cow<'_, str> {
                resource.names()[3].into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

resource!(Whole, Bare, TlsSecret, CaConfigMap);
