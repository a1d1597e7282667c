//! The kernel's network configuration, spoken to directly.
//!
//! A message is a header, a fixed structure and nested attributes; one writer for all of them is less than any library, works
//! without a runtime (a pod's supervisor has none), and needs none of the programs `ip`, `nft` and `conntrack` on the machine.
//!
//! Reading order: `message`, `socket`, then what is said with them: `link`, `nft` (packet filter tables), `conntrack`; `ipv6` says
//! whether all this can be said of IPv6, too.

#[cfg(target_os = "linux")]
pub mod conntrack;
mod family;
#[cfg(target_os = "linux")]
mod ipv6;
#[cfg(target_os = "linux")]
mod link;
mod message;
pub mod nft;
#[cfg(target_os = "linux")]
mod socket;

pub use family::Family;
#[cfg(target_os = "linux")]
pub use ipv6::{NoIpv6, families, ipv6};
#[cfg(target_os = "linux")]
pub use link::{Cable, Links};
pub use message::Message;
#[cfg(target_os = "linux")]
pub use socket::Socket;
