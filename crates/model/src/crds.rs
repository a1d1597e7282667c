//! The definitions of our own kinds, as YAML.

/// One CustomResourceDefinition each.
pub const ALL: [&str; 3] = [
    include_str!("../crds/rollouts.yaml"),
    include_str!("../crds/rolloutcommands.yaml"),
    include_str!("../crds/processimages.yaml"),
];
