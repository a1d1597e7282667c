//! What is to be said in the status of Gateways, ListenerSets, HTTPRoutes and BackendTLSPolicies. Times are added by whoever writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_model::gateway::ParentRef;

use crate::facts::{Entrance, ObjectKey};

/// The words that the Gateway API has for conditions and their reasons.
pub(crate) mod reason {
    pub(crate) const ACCEPTED: &str = "Accepted";
    pub(crate) const PROGRAMMED: &str = "Programmed";
    pub(crate) const RESOLVED_REFS: &str = "ResolvedRefs";
    pub(crate) const CONFLICTED: &str = "Conflicted";
    pub(crate) const OVERLAPPING_TLS: &str = "OverlappingTLSConfig";
    pub(crate) const OVERLAPPING_HOSTNAMES: &str = "OverlappingHostnames";
    pub(crate) const NO_CONFLICTS: &str = "NoConflicts";
    pub(crate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    pub(crate) const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    pub(crate) const INVALID_KIND: &str = "InvalidKind";
    pub(crate) const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
    pub(crate) const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    pub(crate) const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    pub(crate) const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    pub(crate) const NOT_ALLOWED: &str = "NotAllowedByListeners";
    pub(crate) const NO_MATCHING_HOSTNAME: &str = "NoMatchingListenerHostname";
    pub(crate) const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
    /// Of a ListenerSet.
    pub(crate) const SET_NOT_ALLOWED: &str = "NotAllowed";
    pub(crate) const PARENT_NOT_ACCEPTED: &str = "ParentNotAccepted";
    pub(crate) const PARENT_NOT_PROGRAMMED: &str = "ParentNotProgrammed";
    pub(crate) const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    pub(crate) const HOSTNAME_CONFLICT: &str = "HostnameConflict";
    pub(crate) const PROTOCOL_CONFLICT: &str = "ProtocolConflict";
    pub(crate) const PORT_UNAVAILABLE: &str = "PortUnavailable";
    pub(crate) const INVALID: &str = "Invalid";
    pub(crate) const INVALID_CA_REF: &str = "InvalidCACertificateRef";
    pub(crate) const INVALID_CA_KIND: &str = "InvalidCACertificateKind";
    pub(crate) const INVALID_CLIENT_CERTIFICATE_REF: &str = "InvalidClientCertificateRef";
    pub(crate) const INSECURE_FRONTEND: &str = "InsecureFrontendValidationMode";
    pub(crate) const CONFIGURATION_CHANGED: &str = "ConfigurationChanged";
    pub(crate) const UNSUPPORTED_ADDRESS: &str = "UnsupportedAddress";
    pub(crate) const ADDRESS_NOT_USABLE: &str = "AddressNotUsable";
    pub(crate) const INVALID_PARAMETERS: &str = "InvalidParameters";
    pub(crate) const NO_VALID_CA: &str = "NoValidCACertificate";
    /// Of a policy; a listener has a condition of its own for that.
    pub(crate) const POLICY_CONFLICTED: &str = "Conflicted";
    pub(crate) const TARGET_NOT_FOUND: &str = "TargetNotFound";
    pub(crate) const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
    /// Of Ingresses, in events.
    pub(crate) const ANNOTATION_IGNORED: &str = "AnnotationIgnored";
    pub(crate) const ANNOTATION_INVALID: &str = "AnnotationInvalid";
    pub(crate) const NOT_SERVED: &str = "NotServed";
    pub(crate) const PATH_INVALID: &str = "PathInvalid";
    pub(crate) const PATH_TAKEN: &str = "PathTaken";
    pub(crate) const NO_CERTIFICATE: &str = "NoCertificate";
    pub(crate) const NO_MAIN_INGRESS: &str = "NoMainIngress";
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: &'static str,
    pub holds: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Finding {
    pub(crate) fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: true, reason, message: message.into() }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: false, reason, message: message.into() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub gateways: BTreeMap<ObjectKey, GatewayReport>,
    /// Those for Gateways of ours.
    pub listener_sets: BTreeMap<ObjectKey, ListenerSetReport>,
    pub routes: BTreeMap<ObjectKey, RouteReport>,
    /// Those of a class of ours.
    pub ingresses: BTreeMap<ObjectKey, IngressReport>,
    /// BackendTLSPolicies that concern some Gateway.
    pub policies: BTreeMap<ObjectKey, PolicyReport>,
    /// The sockets that valid listeners ask for.
    pub entrances: BTreeSet<Entrance>,
}

/// Where a Gateway is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// At the address of the gateway as such.
    Shared,
    Own(IpAddr),
    /// It asks for one that it cannot have.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayReport {
    pub generation: i64,
    pub address: Address,
    pub findings: Vec<Finding>,
    pub listeners: Vec<ListenerReport>,
    /// How many ListenerSets add theirs.
    pub listener_sets: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSetReport {
    pub generation: i64,
    pub findings: Vec<Finding>,
    /// None of a ListenerSet that is not let in.
    pub listeners: Vec<ListenerReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerReport {
    pub name: String,
    pub attached_routes: i32,
    /// Whether HTTPRoutes may attach at all.
    pub takes_http_routes: bool,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    pub generation: i64,
    /// One for each parentRef that names a Gateway of ours.
    pub parents: Vec<ParentReport>,
}

/// Ingresses have no conditions: what is to be said is said by events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngressReport {
    pub generation: i64,
    pub complaints: Vec<Complaint>,
}

/// What of an object is not served as it asks, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReport {
    pub generation: i64,
    /// The Gateways whose backends it is about.
    pub ancestors: Vec<ObjectKey>,
    /// To each of them.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentReport {
    pub parent: ParentRef,
    pub findings: Vec<Finding>,
}

impl ListenerReport {
    /// Whether this condition holds.
    pub(crate) fn says(&self, kind: &str) -> bool {
        self.findings.iter().any(|found| found.kind == kind && found.holds)
    }
}

impl ListenerSetReport {
    pub(crate) fn is_accepted(&self) -> bool {
        self.findings.iter().any(|found| found.kind == reason::ACCEPTED && found.holds)
    }
}
