//! Names and addresses of services, for everything on this machine and for the containers of its pods.
//!
//! Everything follows from Services and EndpointSlices as the API tells them. `doors` (which address leads to which backends)
//! and `dns::names` (what a name means) are pure; `forward` opens the doors in user space, `kernel` in the packet filter;
//! `dns::server` answers on sockets; `control` keeps all of them at what the API says.

mod control;
mod dns;
mod doors;
mod forward;
#[cfg(target_os = "linux")]
mod kernel;
mod plan;

pub use control::{OwnBackend, Services, ServicesOptions};
pub use dns::{DnsError, DnsListener};
pub use plan::{Network, Plan, Wish};
