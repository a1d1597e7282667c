//! `ProcessImage`: a name under which a command of this machine runs as an image (cluster-scoped, `sluice.dev/v1alpha1`).

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessImageSpec {
    /// The image as pods name it, compared as written; object names cannot carry `:` and `/`, so it stands here.
    pub image: String,
    /// The program, an absolute path.
    pub exec: String,
    /// Its working directory; the pod's own directory otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Its arguments where the container gives neither `command` nor `args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}
