//! Objects of the Gateway API and Ingresses become an immutable routing table; a request head picks a backend.
//!
//! No sockets, no HTTP library, no clock: [`Compiler`] takes [`Change`]s and gives a [`Table`] and a [`Report`];
//! [`Table::find`] takes a [`RequestHead`] and gives a [`Decision`].

mod address;
mod attach;
mod backend;
mod canary;
mod clients;
mod compile;
mod conditions;
pub mod cors;
mod door;
mod duration;
mod facts;
mod filters;
mod grant;
mod guard;
mod hash;
mod head;
mod host;
mod ingress;
mod matching;
mod mirror;
mod namespaces;
mod network;
mod pods;
mod report;
mod rule;
mod session;
mod sets;
mod slots;
mod split;
mod sticky;
mod table;
mod template;
mod tls;
mod trust;

pub use backend::{Backend, BackendKey, Endpoint, PodId, Protocol, Version, VersionId};
pub use clients::ClientTrust;
pub use compile::{Compiled, Compiler, Needs};
pub use cors::Cors;
pub use facts::{
    AuthoritiesFacts, Change, EndpointFacts, Entrance, GatewayFacts, GrantFacts, IngressFacts, ListenerSetFacts,
    ObjectKey, PodFacts, PodRef, PolicyFacts, RolloutFacts, RouteFacts, SecretFacts, ServiceFacts, ServicePort,
    SliceFacts, World,
};
pub use filters::{Filters, HeaderEdits, Redirect, Rewrite};
pub use head::{Headers, RequestHead};
pub use host::Host;
pub use matching::{Match, MatchError};
pub use mirror::{Comparison, Mirror};
pub use network::{Network, NetworkError};
pub use pods::Pods;
pub use report::{
    Address, Complaint, Finding, GatewayReport, IngressReport, ListenerReport, ListenerSetReport, ParentReport,
    PolicyReport, Report, RouteReport,
};
pub use rule::{Retry, RouteId, RouteKind, Rule, Timeouts};
pub use session::{CookieTerms, Notice, Session};
pub use split::{Draws, Split};
pub use sticky::NewCookie;
pub use table::{Copied, CopyOf, Decision, Forward, Refusal, Table, Trial};
pub use tls::{CertificateId, ListenerTls, Transport};
pub use trust::{Authorities, AuthoritiesId, BackendTls, PeerName, Terms, TermsId};
