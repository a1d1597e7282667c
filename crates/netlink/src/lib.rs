//! The kernel's network configuration, spoken to directly.
//!
//! A message is a header, a fixed structure and nested attributes; one writer for all of them is less than any library, works
//! without a runtime, and needs neither the `nft` nor the `conntrack` program on the machine.
//!
//! Reading order: `message`, `socket`, then what is said with them: `nft` (packet filter tables), `conntrack`.

#[cfg(target_os = "linux")]
pub mod conntrack;
mod message;
pub mod nft;
#[cfg(target_os = "linux")]
mod socket;

pub use message::Message;
#[cfg(target_os = "linux")]
pub use socket::Socket;
