//! The kinds every server has.

use std::sync::Arc;

use sluice_schema::{Catalog, Kind};

/// The built-in kinds in the order of discovery.
pub(crate) fn kinds() -> Vec<Arc<Kind>> {
    Catalog::builtin().kinds().to_vec()
}
