//! The Kubernetes HTTP surface over store and schema: a tower service, with or without sockets.

mod admission;
mod body;
mod bootstrap;
mod builtin;
mod call;
mod definitions;
mod dispatch;
mod endpoints;
mod expiry;
mod go_json;
mod identity;
mod inner_wire;
mod listen;
mod live;
mod logs;
mod meter;
mod object;
mod pki;
mod random;
mod refusal;
mod registry;
mod render;
mod request;
mod reviews;
mod rules;
mod selection;
mod server;
mod storage;
mod streams;
mod subresources;
mod tokens;
mod verbs;
mod versions;

pub use body::Body;
pub use bootstrap::StartError;
pub use identity::Identity;
pub use listen::{ServeError, serve};
pub use live::{Live, LiveAnswer, LiveObjects};
pub use logs::{LogError, LogOptions, LogStream, PodLogs};
pub use meter::Measures;
pub use pki::{Pki, PkiError, write_kubeconfig};
pub use server::{InProcess, Options, Server};
pub use streams::{
    Ending, PodStreams, Port, PortStream, Resize, Session, SessionOptions, Size, StreamError, StreamFuture,
    StreamReader, StreamWriter,
};
