//! The options of delete and deletecollection: from the body, or else from the query.

use serde_json::Value;
use sluice_schema::Fault;
use sluice_schema::merge::go_json_type;

use super::query::Query;
use super::write_options::{dry_run_faults, refused};
use crate::refusal::Refusal;

/// What happens to the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    /// A body, however empty its object, makes all parameters of the query void.
    pub(crate) fn parse(query: &Query, body: Option<&Value>) -> Result<Self, Refusal> {
        match body {
            Some(body) => Self::from_body(body),
            None => Self::from_query(query),
        }
    }

    fn from_body(body: &Value) -> Result<Self, Refusal> {
        let grace = match &body["gracePeriodSeconds"] {
            Value::Null => None,
            value => Some(value.as_i64().ok_or_else(|| {
                let found = go_json_type(value);
                Refusal::bad(format!(
                    "json: cannot unmarshal {found} into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
                ))
            })?),
        };
        let dry_run: Vec<&str> = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let preconditions = &body["preconditions"];
        Self::checked(
            grace,
            &dry_run,
            body["propagationPolicy"].as_str(),
            body["orphanDependents"].as_bool(),
            preconditions["uid"].as_str(),
            preconditions["resourceVersion"].as_str(),
        )
    }

    fn from_query(query: &Query) -> Result<Self, Refusal> {
        let grace = match query.get("gracePeriodSeconds") {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| Refusal::bad(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
            ),
        };
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        Self::checked(
            grace,
            &dry_run,
            query.get("propagationPolicy"),
            query.optional_flag("orphanDependents"),
            None,
            None,
        )
    }

    fn checked(
        grace_seconds: Option<i64>,
        dry_run: &[&str],
        policy: Option<&str>,
        orphan: Option<bool>,
        uid: Option<&str>,
        resource_version: Option<&str>,
    ) -> Result<Self, Refusal> {
        let mut faults: Vec<Fault> = Vec::new();
        let named = match policy {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                faults.push(Fault::unsupported("propagationPolicy", other, &supported));
                None
            }
        };
        if let (Some(policy), Some(_)) = (policy, orphan) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            faults.push(Fault::invalid("propagationPolicy", policy, detail));
        }
        faults.extend(dry_run_faults(dry_run.iter().copied()));
        if !faults.is_empty() {
            return Err(refused("DeleteOptions", faults));
        }
        let by_flag = orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            grace_seconds,
            propagation: named.or(by_flag),
            uid: uid.map(str::to_owned),
            resource_version: resource_version.map(str::to_owned),
        })
    }
}
