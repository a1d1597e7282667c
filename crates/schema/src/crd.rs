//! Custom resources: a definition becomes the same kind of table entry that built-in kinds have.

/// What only custom resources have beside their types.
#[derive(Debug, Clone, Default)]
pub struct Custom {}
