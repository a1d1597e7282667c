//! The options of create, update and patch.

use serde_json::json;
use sluice_schema::Fault;
use sluice_schema::managed::{MAX_MANAGER_BYTES, manager_from_user_agent};

use super::query::Query;
use crate::refusal::Refusal;

/// What happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// Who the written fields belong to.
    pub(crate) manager: String,
    pub(crate) validation: FieldValidation,
    pub(crate) force: bool,
}

impl WriteOptions {
    /// `options` names the options in refusals: `CreateOptions`, `UpdateOptions`.
    pub(crate) fn parse(query: &Query, user_agent: &str, options: &str) -> Result<Self, Refusal> {
        let faults = shared_faults(query);
        Self::checked(query, user_agent, options, faults)
    }

    /// The options of a patch; an apply must say who applies, all others may not force.
    pub(crate) fn parse_patch(query: &Query, user_agent: &str, apply: bool) -> Result<Self, Refusal> {
        let mut faults = Vec::new();
        if !apply && query.get("force").is_some() {
            faults.push(Fault::forbidden("force", "may not be specified for non-apply patch"));
        }
        if apply && query.text("fieldManager").is_none() {
            faults.push(Fault::required("fieldManager", "is required for apply patch"));
        }
        faults.extend(shared_faults(query));
        Self::checked(query, user_agent, "PatchOptions", faults)
    }

    fn checked(query: &Query, user_agent: &str, options: &str, faults: Vec<Fault>) -> Result<Self, Refusal> {
        if !faults.is_empty() {
            return Err(refused(options, faults));
        }
        Ok(Self {
            dry_run: query.get("dryRun").is_some(),
            manager: query
                .text("fieldManager")
                .map_or_else(|| manager_from_user_agent(user_agent).to_owned(), str::to_owned),
            validation: match query.get("fieldValidation") {
                Some("Ignore") => FieldValidation::Ignore,
                Some("Strict") => FieldValidation::Strict,
                _ => FieldValidation::Warn,
            },
            force: query.flag("force"),
        })
    }
}

pub(super) fn refused(options: &str, faults: Vec<Fault>) -> Refusal {
    Refusal::Invalid { group: "meta.k8s.io".into(), kind: options.to_owned(), name: String::new(), faults }
}

pub(super) fn dry_run_faults<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Fault> {
    let values: Vec<&str> = values.collect();
    if values.iter().all(|value| *value == "All") {
        vec![]
    } else {
        vec![Fault::unsupported("dryRun", json!(values), &["All"])]
    }
}

fn shared_faults(query: &Query) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(manager) = query.get("fieldManager") {
        faults.extend(manager_faults(manager));
    }
    faults.extend(dry_run_faults(query.all("dryRun")));
    if let Some(validation) = query.get("fieldValidation")
        && !matches!(validation, "" | "Ignore" | "Strict" | "Warn")
    {
        faults.push(Fault::unsupported("fieldValidation", validation, &["", "Ignore", "Strict", "Warn"]));
    }
    faults
}

fn manager_faults(manager: &str) -> Vec<Fault> {
    use sluice_schema::FaultKind::{Invalid, TooLong};
    let mut faults = Vec::new();
    if manager.len() > MAX_MANAGER_BYTES {
        let detail = format!("may not be more than {MAX_MANAGER_BYTES} bytes");
        faults.push(Fault::new("fieldManager", TooLong, None, detail));
    }
    if let Some((at, wrong)) = manager.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(wrong));
        faults.push(Fault::new("fieldManager", Invalid, Some(json!(manager)), detail));
    }
    faults
}
