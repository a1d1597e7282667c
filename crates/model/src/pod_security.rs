//! The Pod Security Standards: what pods may ask for at a level, in the words of a real server.

mod checks;
mod containers;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use checks::{CHECKS, Check};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// The newest version of the standards that is known here.
const LATEST: u32 = 35;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as one version of Kubernetes understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    /// The minor version; none for the latest.
    version: Option<u32>,
}

/// What a namespace asks of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub warn: Standard,
}

/// Why a pod violates a standard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: &'static str,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.detail)
    }
}

impl Policy {
    /// As the labels of a namespace say it; what they do not say is privileged, and warnings follow what is enforced.
    pub fn of(namespace: &Value) -> Self {
        let label = |name: &str| namespace["metadata"]["labels"][format!("{PREFIX}{name}")].as_str();
        let standard = |mode: &str| {
            let level = match label(mode)? {
                "baseline" => Level::Baseline,
                "restricted" => Level::Restricted,
                _ => Level::Privileged,
            };
            let version = label(&format!("{mode}-version")).and_then(|version| version.strip_prefix("v1."));
            Some(Standard { level, version: version.and_then(|minor| minor.parse().ok()) })
        };
        let enforce = standard("enforce").unwrap_or(Standard { level: Level::Privileged, version: None });
        let warn = standard("warn").unwrap_or_else(|| enforce.clone());
        Self { enforce, warn }
    }
}

impl Standard {
    /// Everything in a pod that violates this standard. `metadata` is that of the pod or of its template.
    pub fn violations(&self, metadata: &Value, spec: &Value) -> Vec<Violation> {
        let version = self.version.unwrap_or(LATEST);
        let is_restricted = self.level == Level::Restricted;
        let applies = |check: &&Check| {
            self.level >= check.level && version >= check.since && !(is_restricted && check.is_replaced_at(version))
        };
        let pod = containers::Pod { metadata, spec, version };
        CHECKS.iter().filter(applies).filter_map(|check| (check.look)(&pod)).collect()
    }

    /// Whether what satisfied `before` may violate this.
    pub fn is_stricter_than(&self, before: &Self) -> bool {
        self.level > Level::Privileged && (self.version != before.version || self.level > before.level)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// All violations in one line.
pub fn summary(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join(", ")
}

/// The reasons alone in one line.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}
