//! `metadata.managedFields`: the list of managers, read and written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::Set;

/// Update entries of one object; beyond it the oldest are merged into one.
pub const MAX_UPDATE_MANAGERS: usize = 10;
/// Who then owns what the oldest ones owned.
const ANCIENT_CHANGES: &str = "ancient-changes";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What makes two writes writes of one manager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Empty for appliers, who keep their entry when they change the version.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

/// What a manager owns.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) fields: Set,
    /// The version in which `fields` are to be read.
    pub(super) api_version: String,
    pub(super) time: Option<Timestamp>,
}

/// All managers of one object.
#[derive(Debug, Clone, Default)]
pub(super) struct Managers {
    pub(super) owners: BTreeMap<Identity, Owned>,
}

impl Identity {
    pub(super) fn new(manager: &str, operation: Operation, api_version: &str, subresource: Option<&str>) -> Self {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Self {
            manager: manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.unwrap_or_default().to_owned(),
        }
    }
}

/// As conflicts name a manager: `"m" with subresource "scale" using apps/v1`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

impl Managers {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Reads the entries of an object. Of two entries of one manager the later counts.
    pub(super) fn decode(entries: &Value) -> Result<Self, String> {
        let mut managers = Self::default();
        let entries = match entries {
            Value::Null => return Ok(managers),
            Value::Array(entries) => entries,
            other => return Err(format!("`{other}` is no list of managers")),
        };
        for entry in entries {
            let (identity, owned) = decode_entry(entry)?;
            managers.owners.insert(identity, owned);
        }
        Ok(managers)
    }

    /// The entries in their published order: appliers first, then by time, manager, version and subresource.
    pub(super) fn encode(&self) -> Value {
        let mut owners: Vec<_> = self.owners.iter().collect();
        owners.sort_by_key(|(identity, owned)| {
            let seconds = owned.time.map_or(0, Timestamp::as_second);
            (identity.operation, seconds, &identity.manager, &owned.api_version, &identity.subresource)
        });
        owners.into_iter().map(|(identity, owned)| encode_entry(identity, owned)).collect()
    }

    /// Takes away what a manager does not own any more; without any field there is no manager.
    pub(super) fn set_fields(&mut self, identity: &Identity, fields: Set) {
        if fields.is_empty() {
            self.owners.remove(identity);
        } else if let Some(owned) = self.owners.get_mut(identity) {
            owned.fields = fields;
        }
    }

    /// Merges the oldest entries of updates into one for each version, until there are no more than the bound.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(i64, Identity)> = self
            .owners
            .iter()
            .filter(|(identity, _)| identity.operation == Operation::Update)
            .map(|(identity, owned)| (owned.time.map_or(0, Timestamp::as_second), identity.clone()))
            .collect();
        let mut excess = updaters.len().saturating_sub(MAX_UPDATE_MANAGERS);
        updaters.sort();
        let mut oldest_of_version: BTreeMap<String, Identity> = BTreeMap::new();
        for (_, identity) in updaters {
            if excess == 0 {
                break;
            }
            let Some(version) = self.owners.get(&identity).map(|owned| owned.api_version.clone()) else { continue };
            let bucket = Identity::new(ANCIENT_CHANGES, Operation::Update, &version, None);
            let first = match oldest_of_version.entry(version) {
                Entry::Vacant(entry) => {
                    entry.insert(identity);
                    continue;
                }
                Entry::Occupied(entry) => entry.get().clone(),
            };
            if !self.owners.contains_key(&bucket)
                && let Some(owned) = self.owners.remove(&first)
            {
                self.owners.insert(bucket.clone(), owned);
            }
            let Some(merged) = self.owners.remove(&identity) else { continue };
            if let Some(ancient) = self.owners.get_mut(&bucket) {
                ancient.fields = ancient.fields.union(&merged.fields);
                ancient.time = merged.time;
            }
            excess -= 1;
        }
    }
}

fn decode_entry(entry: &Value) -> Result<(Identity, Owned), String> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        other => return Err(format!("operation must be `Apply` or `Update`, not `{other}`")),
    };
    if text("apiVersion").is_empty() {
        return Err("apiVersion must not be empty".into());
    }
    if text("fieldsType") != "FieldsV1" {
        return Err(format!("fieldsType must be `FieldsV1`, not `{}`", text("fieldsType")));
    }
    let identity = Identity::new(text("manager"), operation, text("apiVersion"), entry["subresource"].as_str());
    let owned = Owned {
        fields: Set::decode(&entry["fieldsV1"])?,
        api_version: text("apiVersion").to_owned(),
        time: text("time").parse().ok(),
    };
    Ok((identity, owned))
}

fn encode_entry(identity: &Identity, owned: &Owned) -> Value {
    let operation = match identity.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut entry = Map::from_iter([
        ("operation".to_owned(), json!(operation)),
        ("apiVersion".to_owned(), json!(owned.api_version)),
        ("fieldsType".to_owned(), json!("FieldsV1")),
        ("fieldsV1".to_owned(), owned.fields.encode()),
    ]);
    let optional = [("manager", identity.manager.as_str()), ("subresource", identity.subresource.as_str())];
    for (name, text) in optional.into_iter().filter(|(_, text)| !text.is_empty()) {
        entry.insert(name.to_owned(), json!(text));
    }
    if let Some(time) = owned.time {
        entry.insert("time".to_owned(), json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    Value::Object(entry)
}
