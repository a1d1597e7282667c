//! Operating systems and processors, in the words of Go.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// As an index writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlatform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// In normal form: `arm64/v8` is `arm64`, `x86_64` is `amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    /// The level of the processor, as in `v7`; 0 when the architecture has but one.
    level: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform `{0}`: write it as `OS/ARCHITECTURE`, such as `linux/arm64` or `linux/arm/v7`")]
pub struct PlatformError(String);

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" | "x86" => "386",
            other => other,
        };
        let said = variant.and_then(|v| v.trim_start_matches('v').split('.').next()?.parse().ok());
        let level = match architecture {
            "amd64" => said.unwrap_or(1),
            "arm64" => said.unwrap_or(8),
            "arm" => said.unwrap_or(7),
            _ => said.unwrap_or(0),
        };
        Self { os: os.to_lowercase(), architecture: architecture.to_owned(), level }
    }

    /// This machine.
    pub fn host() -> Self {
        let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
        Self { level: host_level(), ..Self::new(os, std::env::consts::ARCH, None) }
    }

    /// How well an image of `other` runs here, 0 being best; `None` when it does not.
    pub(crate) fn rank(&self, other: &Self) -> Option<u8> {
        if self.os != other.os {
            return None;
        }
        if self.architecture == other.architecture {
            return self.level.checked_sub(other.level);
        }
        match (self.architecture.as_str(), other.architecture.as_str()) {
            ("amd64", "386") => Some(100),
            ("arm64", "arm") if other.level <= 8 => Some(100 + (8 - other.level)),
            _ => None,
        }
    }
}

/// x86-64 comes in levels, and images may ask for them.
fn host_level() -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        let v2 = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
        let v3 = v2
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("fma");
        if v3 {
            3
        } else if v2 {
            2
        } else {
            1
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Platform::new("linux", std::env::consts::ARCH, None).level
}

impl From<&ImagePlatform> for Platform {
    fn from(platform: &ImagePlatform) -> Self {
        Self::new(&platform.os, &platform.architecture, platform.variant.as_deref())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] if !os.is_empty() && !architecture.is_empty() && variant.starts_with('v') => {
                Ok(Self::new(os, architecture, Some(variant)))
            }
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match (self.architecture.as_str(), self.level) {
            ("amd64", 1) | ("arm64", 8) | (_, 0) => Ok(()),
            (_, level) => write!(f, "/v{level}"),
        }
    }
}
