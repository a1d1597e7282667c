//! The cluster's DNS: `names` says what each name means, `answer` makes messages of it, `server` and `upstream` have sockets.

mod answer;
mod names;
mod server;
mod upstream;

pub(crate) use names::Names;
pub use server::{DnsError, DnsListener};
