//! Ownership by `/scale`: who owns `replicas` of the parent owns `spec.replicas` of its `Scale`, and the other way round.
//!
//! An entry made by `/scale` carries no time, and an entry that lost its replicas to one of the same name without a
//! subresource stands beside it until the next write: so it is on a real server.

use serde_json::Value;

use super::entries::{Identity, Managers, Owned};
use super::set::Set;
use super::{ApplyError, Writer, apply, update};

const SCALE_VERSION: &str = "autoscaling/v1";
const SCALE_PATH: [&str; 2] = ["spec", "replicas"];

/// Where a kind keeps its number of replicas.
pub struct Scale<'a> {
    /// For each version the path of the replicas, `spec.replicas` of all built-in kinds; empty where that version has no
    /// scale. The first is the version of the request.
    pub paths: &'a [(String, Vec<String>)],
}

impl Scale<'_> {
    /// Records a PUT or patch of `/scale` of `parent` from `old` to `new`, both `Scale` objects and of that kind the writer.
    /// Returns the new entries of the parent.
    pub fn update(&self, writer: &Writer<'_>, parent: &Value, old: &Value, new: &Value) -> Value {
        let old = self.with_entries(parent, old);
        let mut new = new.clone();
        update(writer, Some(&old), &mut new);
        self.to_parent(parent, &new["metadata"]["managedFields"])
    }

    /// Applies `patch` to the `Scale` object `old`. Returns the new one and the new entries of the parent.
    pub fn apply(
        &self,
        writer: &Writer<'_>,
        parent: &Value,
        old: &Value,
        patch: &Value,
        force: bool,
    ) -> Result<(Value, Value), ApplyError> {
        let old = self.with_entries(parent, old);
        let new = apply(writer, Some(&old), patch, force)?;
        let entries = self.to_parent(parent, &new["metadata"]["managedFields"]);
        Ok((new, entries))
    }

    fn path(&self, api_version: &str) -> Option<&[String]> {
        self.paths.iter().find(|(version, _)| version == api_version).map(|(_, path)| path.as_slice())
    }

    /// The `Scale` with those entries of its parent that own the replicas.
    fn with_entries(&self, parent: &Value, scale: &Value) -> Value {
        let parent = managers(parent);
        let mut managers = Managers::default();
        for (identity, owned) in parent.owners {
            let path = self.path(&owned.api_version).filter(|path| !path.is_empty());
            if path.is_some_and(|path| owned.fields.has_fields(path.iter().map(String::as_str))) {
                let fields = Set::of_fields(SCALE_PATH);
                managers.owners.insert(identity, Owned { fields, api_version: SCALE_VERSION.to_owned(), ..owned });
            }
        }
        let mut scale = scale.clone();
        scale["metadata"]["managedFields"] = managers.encode();
        scale
    }

    /// The entries of the parent after those of its `Scale` have become `entries`.
    fn to_parent(&self, parent: &Value, entries: &Value) -> Value {
        let parent = managers(parent);
        let mut scale = Managers::decode(entries).unwrap_or_default();
        let mut managers: Vec<(Identity, Owned)> = Vec::new();
        for (identity, owned) in parent.owners {
            // A version that is not known any more has no owners.
            let Some(path) = self.path(&owned.api_version) else { continue };
            let path = path.iter().map(String::as_str);
            if path.len() == 0 || !owned.fields.has_fields(path.clone()) || scale.owners.remove(&identity).is_some() {
                managers.push((identity, owned));
                continue;
            }
            let fields = owned.fields.difference(&Set::of_fields(path));
            if !fields.is_empty() {
                managers.push((identity, Owned { fields, ..owned }));
            }
        }
        if let Some((version, path)) = self.paths.first() {
            for (identity, _) in scale.owners {
                let fields = Set::of_fields(path.iter().map(String::as_str));
                managers.push((identity, Owned { fields, api_version: version.clone(), time: None }));
            }
        }
        Managers { owners: managers.into_iter().collect() }.encode()
    }
}

fn managers(object: &Value) -> Managers {
    Managers::decode(&object["metadata"]["managedFields"]).unwrap_or_default()
}
