//! How services are reached on this machine, and out of which network they get their addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// The kernel where we may and nobody else does, user space otherwise.
    #[default]
    Auto,
    /// The packet filter of the kernel, or nothing.
    Kernel,
    /// Sockets of our own.
    User,
}

/// Addresses of services come from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: Ipv4Addr,
    pub prefix_length: u8,
}

impl Network {
    /// What Kubernetes usually has.
    pub const KERNEL: Self = Self { address: Ipv4Addr::new(10, 96, 0, 0), prefix_length: 12 };

    /// Loopback addresses need nobody's leave. Engines side by side on one machine must not meet, so each begins elsewhere; the
    /// half below belongs to others and to pods of processes.
    pub fn loopback(seed: u32) -> Self {
        let second = u8::try_from(128 + seed % 127).expect("at most 254");
        Self { address: Ipv4Addr::new(127, second, 0, 0), prefix_length: 16 }
    }

    pub fn nth(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + number)
    }

    /// The `kubernetes` service.
    pub fn api(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// The `kube-dns` service: what `/etc/resolv.conf` of containers says.
    pub fn dns(&self) -> Ipv4Addr {
        self.nth(10)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// What clusters of both families usually have.
#[cfg(target_os = "linux")]
const KERNEL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);

/// What was decided at the start of an engine; held for as long as it runs.
#[derive(Debug)]
pub struct Plan {
    pub network: Network,
    /// A second one, for services that want IPv6: only the packet filter can catch what is sent there.
    pub network_v6: Option<(Ipv6Addr, u8)>,
    /// A loopback address that is this engine's alone, where its DNS listens.
    pub own_address: Ipv4Addr,
    #[cfg(target_os = "linux")]
    pub(crate) kernel: Option<crate::kernel::Owner>,
}

impl Plan {
    /// `seed` differs from engine to engine; `ipv6` says whether services may have it where the machine has it.
    pub fn choose(wish: Wish, seed: u32, ipv6: bool) -> std::io::Result<Self> {
        let loopback = Network::loopback(seed);
        #[cfg(target_os = "linux")]
        {
            let kernel = match wish {
                Wish::User => None,
                Wish::Kernel => Some(crate::kernel::Owner::claim()?),
                Wish::Auto => {
                    crate::kernel::Owner::claim().map_err(|error| tracing::debug!(%error, "No packet filter")).ok()
                }
            };
            let network = if kernel.is_some() { Network::KERNEL } else { loopback };
            let has_v6 = ipv6 && kernel.is_some() && sluice_netlink::ipv6().is_ok();
            Ok(Self { network, network_v6: has_v6.then_some(KERNEL_V6), own_address: loopback.dns(), kernel })
        }
        #[cfg(not(target_os = "linux"))]
        match wish {
            Wish::Kernel => Err(std::io::Error::from(std::io::ErrorKind::Unsupported)),
            Wish::Auto | Wish::User => {
                let _only_a_packet_filter_could = ipv6;
                Ok(Self { network: loopback, network_v6: None, own_address: loopback.dns() })
            }
        }
    }

    pub fn in_kernel(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.kernel.is_some();
        #[cfg(not(target_os = "linux"))]
        false
    }
}
