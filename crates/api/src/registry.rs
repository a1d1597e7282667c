//! Which kinds are served at this moment: the built-in ones and those of the custom resource definitions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_schema::Kind;

/// All kinds at one moment; replaced as a whole when a definition changes.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// In the order of discovery.
    pub(crate) all: Vec<Arc<Kind>>,
    /// By `group/version/plural`.
    by_path: HashMap<String, Arc<Kind>>,
    versions: BTreeSet<(String, String)>,
    custom_groups: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct Registry {
    builtin: Vec<Arc<Kind>>,
    current: ArcSwap<Kinds>,
}

impl Kinds {
    fn new(all: Vec<Arc<Kind>>) -> Self {
        let by_path =
            all.iter().map(|kind| (path(&kind.group, &kind.version, &kind.plural), Arc::clone(kind))).collect();
        let versions = all.iter().map(|kind| (kind.group.clone(), kind.version.clone())).collect();
        let builtin: BTreeSet<&str> = all.iter().filter(|k| k.custom.is_none()).map(|k| k.group.as_str()).collect();
        let custom_groups =
            all.iter().map(|k| k.group.as_str()).filter(|group| !builtin.contains(group)).map(str::to_owned).collect();
        Self { by_path, versions, custom_groups, all }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_path.get(&path(group, version, plural)).cloned()
    }

    pub(crate) fn knows_group(&self, group: &str) -> bool {
        self.versions.iter().any(|(known, _)| known == group)
    }

    pub(crate) fn knows_version(&self, group: &str, version: &str) -> bool {
        self.versions.iter().any(|(g, v)| g == group && v == version)
    }

    pub(crate) fn is_custom_group(&self, group: &str) -> bool {
        self.custom_groups.contains(group)
    }
}

impl Registry {
    pub(crate) fn new(builtin: Vec<Arc<Kind>>) -> Self {
        let current = ArcSwap::from_pointee(Kinds::new(builtin.clone()));
        Self { builtin, current }
    }

    pub(crate) fn kinds(&self) -> Arc<Kinds> {
        self.current.load_full()
    }

    /// Serves these custom kinds from now on, and no others.
    pub(crate) fn publish(&self, custom: Vec<Arc<Kind>>) {
        let all = self.builtin.iter().cloned().chain(custom).collect();
        self.current.store(Arc::new(Kinds::new(all)));
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
