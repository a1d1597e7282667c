//! The rules of ownership: what a write takes, what it gives up, whom it conflicts with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::entries::{Identity, Managers, Operation, Owned};
use super::place::Place;
use super::set::Set;
use super::typecheck::{Duplicates, check};
use super::walk::{Comparison, compare, fields, merge, remove, same};
use super::{ApplyError, Conflict, Versions, reset};
use crate::kinds::Kind;

/// One write: the kind in its version, and what it may own.
pub(super) struct Write<'a> {
    pub(super) kind: &'a Kind,
    pub(super) versions: &'a dyn Versions,
    /// Fields that this endpoint does not write, whatever the body says.
    pub(super) ignored: Set,
}

/// Why the ownership of an object cannot be told.
pub(super) enum OwnerError {
    Conflicts(Vec<Conflict>),
    Failed(String),
}

impl From<OwnerError> for ApplyError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Conflicts(conflicts) => Self::Conflicts(conflicts),
            OwnerError::Failed(text) => Self::Failed(text),
        }
    }
}

impl<'a> Write<'a> {
    pub(super) fn new(kind: &'a Kind, versions: &'a dyn Versions, subresource: Option<&str>) -> Self {
        Self { kind, versions, ignored: reset::ignored(kind, subresource) }
    }

    fn place(&self) -> Place<'a> {
        Place::Typed(self.kind.ty())
    }

    /// A write that is no apply: `new` is stored as it is, and `writer` owns what it changed.
    pub(super) fn update(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        writer: &Identity,
    ) -> Result<Owned, OwnerError> {
        self.reconcile(live, managers)?;
        let changes = self.settle(live, new, managers, writer, true)?;
        let fields = changes.written().without(&self.ignored);
        Ok(Owned { fields, api_version: self.kind.api_version(), time: None })
    }

    /// An apply. Returns the merged object, or nothing when it is the live one.
    pub(super) fn apply(
        &self,
        live: &Value,
        applied: &Value,
        managers: &mut Managers,
        applier: &Identity,
        force: bool,
    ) -> Result<Option<Value>, OwnerError> {
        self.reconcile(live, managers)?;
        let place = self.place();
        let merged = merge(place, live, applied);
        let before = managers.owners.get(applier).cloned();
        let owned = Owned {
            fields: fields(place, applied).without(&self.ignored),
            api_version: self.kind.api_version(),
            time: before.as_ref().and_then(|before| before.time),
        };
        managers.owners.insert(applier.clone(), owned);
        let merged = match before {
            Some(before) if !before.fields.is_empty() => self
                .prune(merged, managers, &before)
                .map_err(|why| OwnerError::Failed(format!("failed to prune fields: {why}")))?,
            _ => merged,
        };
        self.settle(live, &merged, managers, applier, force)?;
        Ok((!same(live, &merged)).then_some(merged))
    }

    /// Takes from the others what `writer` changes; without force that is a conflict.
    fn settle(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        writer: &Identity,
        force: bool,
    ) -> Result<Comparison, OwnerError> {
        let all = compare(self.place(), live, new);
        let mut changes = Changes::new(self, live, new, &all);
        let mut conflicts = Vec::new();
        let mut left = Vec::new();
        for (identity, owned) in managers.owners.iter().filter(|(identity, _)| *identity != writer) {
            let Some(changes) = changes.at(&owned.api_version)? else {
                left.push((identity.clone(), Set::default()));
                continue;
            };
            let taken = owned.fields.intersection(&changes.written());
            if !force {
                conflicts.extend(Conflict::of(identity, &taken));
            }
            left.push((identity.clone(), owned.fields.difference(&taken).difference(&changes.removed)));
        }
        if !conflicts.is_empty() {
            return Err(OwnerError::Conflicts(conflicts));
        }
        for (identity, fields) in left {
            managers.set_fields(&identity, fields);
        }
        if managers.owners.get(writer).is_some_and(|owned| owned.fields.is_empty()) {
            managers.owners.remove(writer);
        }
        Ok(all)
    }

    /// Reads all entries by the types of today. Entries of versions that are not served any more are dropped.
    fn reconcile(&self, live: &Value, managers: &mut Managers) -> Result<(), OwnerError> {
        let mut known: BTreeMap<String, Option<Versioned<'a, '_>>> = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for (identity, mut owned) in std::mem::take(&mut managers.owners) {
            if !known.contains_key(&owned.api_version) {
                let there = self.convert(live, &owned.api_version).map_err(OwnerError::Failed)?;
                known.insert(owned.api_version.clone(), there);
            }
            if let Some(Some(there)) = known.get(&owned.api_version) {
                owned.fields = owned.fields.coarsened(there.place());
                kept.insert(identity, owned);
            }
        }
        managers.owners = kept;
        Ok(())
    }

    /// Takes out of `merged` what the applier owned `before` and nobody owns now.
    fn prune(&self, merged: Value, managers: &Managers, before: &Owned) -> Result<Value, String> {
        let merged_then = self.convert(&merged, &before.api_version);
        let merged_then =
            merged_then.map_err(|why| format!("failed to convert merged object to last applied version: {why}"))?;
        let Some(merged_then) = merged_then else { return Ok(merged) };
        let then = merged_then.place();
        let last = before.fields.with_named_fields(then);
        let mut pruned = remove(then, &merged_then.value, &last);
        // The version of the last apply comes first: what it lacks might be needed to convert.
        let mut versions = vec![before.api_version.as_str()];
        for owned in managers.owners.values() {
            if !versions.contains(&owned.api_version.as_str()) {
                versions.push(&owned.api_version);
            }
        }
        for version in versions {
            pruned = self
                .add_back_owned(&merged_then.value, pruned, managers, version)
                .map_err(|why| format!("failed add back owned items: {why}"))?;
        }
        // Only what the applier owned goes; the rest was never its to take.
        let pruned = self.convert(&pruned, &before.api_version).map_err(|why| {
            format!("failed add back dangling items: failed to convert pruned object to last applied version: {why}")
        })?;
        let Some(pruned) = pruned else { return Ok(merged) };
        let kept = fields(then, &pruned.value).with_named_fields(then);
        let all = fields(then, &merged_then.value).with_named_fields(then);
        let gone = all.difference(&kept).intersection(&last);
        let result = remove(then, &merged_then.value, &gone);
        let converted = self.convert(&result, &self.kind.api_version())?;
        Ok(converted.map(|converted| converted.value.into_owned()).unwrap_or(result))
    }

    fn add_back_owned(
        &self,
        merged: &Value,
        pruned: Value,
        managers: &Managers,
        version: &str,
    ) -> Result<Value, String> {
        let failed = |what: &'static str| {
            move |why: String| format!("failed to convert {what} object at version {version}: {why}")
        };
        let merged = self.convert(merged, version).map_err(failed("merged"))?;
        let there = self.convert(&pruned, version).map_err(failed("pruned"))?;
        let (Some(merged), Some(there)) = (merged, there) else { return Ok(pruned) };
        let place = merged.place();
        let owners = managers.owners.values().filter(|owned| owned.api_version == version);
        let owned = owners.fold(Set::default(), |all, owned| all.union(&owned.fields)).with_named_fields(place);
        let kept = fields(place, &there.value).with_named_fields(place).union(&owned);
        let gone = fields(place, &merged.value).with_named_fields(place).difference(&kept);
        Ok(remove(place, &merged.value, &gone))
    }

    /// The object in another version; nothing when there is no such version.
    fn convert<'v>(&self, object: &'v Value, version: &str) -> Result<Option<Versioned<'a, 'v>>, String> {
        let own = self.kind.api_version();
        if version == own && [own.as_str(), ""].contains(&api_version(object)) {
            return Ok(Some(Versioned { kind: self.kind, value: Cow::Borrowed(object) }));
        }
        let Some((kind, value)) = self.versions.convert(object, version) else { return Ok(None) };
        if api_version(object) != version {
            check(Place::Typed(kind.ty()), &value, Duplicates::Allowed)?;
        }
        Ok(Some(Versioned { kind, value: Cow::Owned(value) }))
    }
}

/// An object as it looks in one version.
struct Versioned<'a, 'v> {
    kind: &'a Kind,
    value: Cow<'v, Value>,
}

impl<'a> Versioned<'a, '_> {
    fn place(&self) -> Place<'a> {
        Place::Typed(self.kind.ty())
    }
}

fn api_version(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap_or_default()
}

/// What a write changes, as each version sees it.
struct Changes<'w, 'a> {
    write: &'w Write<'a>,
    live: &'w Value,
    new: &'w Value,
    known: BTreeMap<String, Option<Comparison>>,
}

impl<'w, 'a> Changes<'w, 'a> {
    fn new(write: &'w Write<'a>, live: &'w Value, new: &'w Value, all: &Comparison) -> Self {
        let own = all.without(&write.ignored);
        let known = BTreeMap::from([(write.kind.api_version(), Some(own))]);
        Self { write, live, new, known }
    }

    /// Nothing for a version that is not served any more.
    fn at(&mut self, version: &str) -> Result<Option<&Comparison>, OwnerError> {
        if !self.known.contains_key(version) {
            let failed = |what: &'static str| {
                move |why: String| OwnerError::Failed(format!("failed to convert {what} object: {why}"))
            };
            let old = self.write.convert(self.live, version).map_err(failed("old"))?;
            let new = self.write.convert(self.new, version).map_err(failed("new"))?;
            let changes = match (old, new) {
                (Some(old), Some(new)) => {
                    Some(compare(old.place(), &old.value, &new.value).without(&self.write.ignored))
                }
                _ => None,
            };
            self.known.insert(version.to_owned(), changes);
        }
        Ok(self.known.get(version).and_then(Option::as_ref))
    }
}

impl Conflict {
    fn of(identity: &Identity, fields: &Set) -> Vec<Self> {
        let manager = identity.to_string();
        fields.paths().into_iter().map(|path| Self { manager: manager.clone(), path }).collect()
    }
}

/// Who an update is, beside whom all entries are others: its new fields are merged into its entry afterwards.
pub(super) fn nobody() -> Identity {
    Identity::new("", Operation::Update, "", Some("current write"))
}
