//! Container images on this machine, without a container engine.
//!
//! A [`Reference`] names an image; its layers become directories that overlayfs can stack, content-addressed in one
//! [`Store`] that several processes may use at once.

mod archive;
mod decompress;
mod digest;
mod limits;
mod manifest;
mod platform;
mod pull;
mod reference;
mod registry;
mod store;
mod tar;
mod unpack;

pub use archive::ArchiveError;
pub use digest::{Digest, DigestError, Hasher};
pub use limits::Limits;
pub use manifest::{Descriptor, Document, ImageConfig, Index, Manifest, ManifestError, RootFs, RunConfig};
pub use platform::{ImagePlatform, Platform, PlatformError};
pub use pull::{Progress, Pull, PullError};
pub use reference::{Reference, ReferenceError};
pub use registry::{Challenge, Credential, CredentialsError, Hosts, Keyring, Patience, Registry, RegistryError};
pub use store::{Collected, Image, Policy, Record, Store, StoreError};
pub use tar::TarError;
pub use unpack::UnpackError;
