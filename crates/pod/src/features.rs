//! What containers need of the kernel, and what to tell somebody whose kernel does not have it.

use std::io;

use rustix::io::Errno;

/// Something that a kernel is built with, or loads as a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Overlay,
    Bridge,
    Veth,
    PacketFilter,
}

impl Feature {
    fn module(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Bridge => "bridge",
            Self::Veth => "veth",
            Self::PacketFilter => "nf_tables",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Overlay => "CONFIG_OVERLAY_FS",
            Self::Bridge => "CONFIG_BRIDGE",
            Self::Veth => "CONFIG_VETH",
            Self::PacketFilter => "CONFIG_NF_TABLES and CONFIG_NFT_NAT",
        }
    }

    /// What is missing and what to do about it, for a sentence.
    pub fn missing(self) -> String {
        let (module, option) = (self.module(), self.option());
        format!("the kernel lacks `{module}`: load the module (`modprobe {module}`), or use a kernel with {option}")
    }

    /// Says so of an error that means it; leaves any other alone.
    pub fn explain(self, error: io::Error) -> io::Error {
        /// What kernels answer to a request for something that they do not have.
        const UNKNOWN: [Errno; 4] = [Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT, Errno::NOSYS];
        let lacks = |errno: Errno| {
            // Kinds of chains are modules, too.
            UNKNOWN.contains(&errno) || (self == Self::PacketFilter && errno == Errno::NOENT)
        };
        match error.raw_os_error().is_some_and(|number| lacks(Errno::from_raw_os_error(number))) {
            true => io::Error::new(error.kind(), format!("{} ({error})", self.missing())),
            false => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lacks_something_is_told_from_one_that_refuses() {
        let check = |feature: Feature, errno: Errno, expected: &str| {
            assert_eq!(feature.explain(errno.into()).to_string(), expected);
        };
        check(
            Feature::Veth,
            Errno::OPNOTSUPP,
            "the kernel lacks `veth`: load the module (`modprobe veth`), or use a kernel with CONFIG_VETH (Operation not \
             supported (os error 95))",
        );
        check(
            Feature::PacketFilter,
            Errno::PROTONOSUPPORT,
            "the kernel lacks `nf_tables`: load the module (`modprobe nf_tables`), or use a kernel with CONFIG_NF_TABLES and \
             CONFIG_NFT_NAT (Protocol not supported (os error 93))",
        );
        check(Feature::Bridge, Errno::PERM, "Operation not permitted (os error 1)");
        check(Feature::Veth, Errno::NODEV, "No such device (os error 19)");
    }
}
