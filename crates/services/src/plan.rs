//! How services are reached on this machine, and out of which network they get their addresses.

use std::fmt;
use std::net::Ipv4Addr;

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

/// What was decided at the start of an engine; held for as long as it runs.
#[derive(Debug)]
pub struct Plan {
    pub network: Network,
    /// A loopback address that is this engine's alone, where its DNS listens.
    pub own_address: Ipv4Addr,
    #[cfg(target_os = "linux")]
    pub(crate) kernel: Option<crate::kernel::Owner>,
}

impl Plan {
    /// `seed` differs from engine to engine.
    pub fn choose(wish: Wish, seed: u32) -> std::io::Result<Self> {
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
            Ok(Self { network, own_address: loopback.dns(), kernel })
        }
        #[cfg(not(target_os = "linux"))]
        match wish {
            Wish::Kernel => Err(std::io::Error::from(std::io::ErrorKind::Unsupported)),
            Wish::Auto | Wish::User => Ok(Self { network: loopback, own_address: loopback.dns() }),
        }
    }

    pub fn in_kernel(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.kernel.is_some();
        #[cfg(not(target_os = "linux"))]
        false
    }
}
