//! The options of list, watch and deletecollection.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sluice_schema::Fault;

use super::query::Query;
use super::write_options::refused;
use crate::go_json;
use crate::refusal::Refusal;

/// Which state a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Snapshot {
    Newest,
    /// The newest, but at least this old revision must have been reached.
    NotOlderThan(u64),
    Exact(u64),
}

/// Where a page goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continue {
    /// `None`: go on in the newest state.
    pub(crate) revision: Option<u64>,
    /// The key within the collection after which the page starts.
    pub(crate) after: String,
}

#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) limit: usize,
    pub(crate) from: Option<Continue>,
    pub(crate) resource_version: String,
    pub(crate) version_match: String,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout_seconds: Option<u64>,
}

const VERSION: &str = "meta.k8s.io/v1";
/// Go's decoder does not look at the bits that are left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

impl ListOptions {
    /// `watch`: the options are read as those of a watch.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, Refusal> {
        let limit = integer(query, "limit")?.unwrap_or(0);
        let timeout = integer(query, "timeoutSeconds")?;
        let options = Self {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            limit: usize::try_from(limit).unwrap_or(0),
            from: None,
            resource_version: query.get("resourceVersion").unwrap_or_default().to_owned(),
            version_match: query.get("resourceVersionMatch").unwrap_or_default().to_owned(),
            send_initial_events: query.optional_flag("sendInitialEvents"),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: timeout.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0),
        };
        let token = query.text("continue");
        let faults = if watch { options.watch_faults(token.is_some()) } else { options.list_faults(token.is_some()) };
        if faults.is_empty() { Ok(options) } else { Err(refused("ListOptions", faults)) }
    }

    /// Reads the continue token; only after the selectors were found to be right.
    pub(crate) fn with_continue(mut self, query: &Query) -> Result<Self, Refusal> {
        if let Some(token) = query.text("continue") {
            self.from = Some(Continue::decode(token)?);
            if !matches!(self.resource_version.as_str(), "" | "0") {
                return Err(Refusal::bad("specifying resource version is not allowed when using continue"));
            }
            // With resourceVersion=0 the rest comes as a whole.
            if self.resource_version == "0" {
                self.limit = 0;
            }
        }
        Ok(self)
    }

    fn list_faults(&self, continued: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.send_initial_events.is_some() {
            faults.push(Fault::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if self.version_match.is_empty() {
            return faults;
        }
        let path = "resourceVersionMatch";
        if self.resource_version.is_empty() {
            faults.push(Fault::forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if continued {
            faults.push(Fault::forbidden(path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        match self.version_match.as_str() {
            "Exact" if self.resource_version == "0" => {
                let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                faults.push(Fault::forbidden(path, detail));
            }
            "Exact" | "NotOlderThan" => {}
            other => faults.push(Fault::unsupported(path, other, &["Exact", "NotOlderThan", ""])),
        }
        faults
    }

    fn watch_faults(&self, continued: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        let path = "resourceVersionMatch";
        match self.send_initial_events {
            Some(_) if self.version_match != "NotOlderThan" => {
                let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                faults.push(Fault::forbidden(path, detail));
            }
            None if !self.version_match.is_empty() => {
                let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                faults.push(Fault::forbidden(path, detail));
            }
            _ => {}
        }
        if !matches!(self.version_match.as_str(), "" | "NotOlderThan") {
            faults.push(Fault::unsupported(path, self.version_match.as_str(), &["NotOlderThan"]));
        }
        if continued {
            faults.push(Fault::forbidden(path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        faults
    }

    /// Which state a list is asked for.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Refusal> {
        if let Some(Continue { revision, .. }) = self.from {
            return Ok(revision.map_or(Snapshot::Newest, Snapshot::Exact));
        }
        let asked = match self.resource_version.as_str() {
            "" | "0" => return Ok(Snapshot::Newest),
            text => revision(text).map_err(|fault| {
                Refusal::bad(format!("invalid resource version: {}: {}", fault.path, fault.message()))
            })?,
        };
        // A limit without a match pins the revision, as clients before the match parameter expect.
        let exact = self.version_match == "Exact" || (self.version_match.is_empty() && self.limit > 0);
        Ok(if exact { Snapshot::Exact(asked) } else { Snapshot::NotOlderThan(asked) })
    }
}

/// A resource version as a number.
pub(crate) fn revision(text: &str) -> Result<u64, Fault> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().ok_or_else(|| {
        Fault::invalid("resourceVersion", text, format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })
}

fn integer(query: &Query, key: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = query.get(key) else { return Ok(None) };
    let parsed = text.parse::<i64>().ok();
    parsed.map(Some).ok_or_else(|| Refusal::bad(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

impl Continue {
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(json!(-1), |r| json!(r));
        let token = json!({"v": VERSION, "rv": revision, "start": format!("{}\0", self.after)});
        BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(token: &str) -> Result<Self, Refusal> {
        Self::read(token)
            .map_err(|why| Refusal::bad(format!("invalid continue token: continue key is not valid: {why}")))
    }

    fn read(token: &str) -> Result<Self, String> {
        let raw = LENIENT.decode(token.trim_end_matches('='));
        let raw = raw.map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) => format!("illegal base64 data at input byte {at}"),
            _ => format!("illegal base64 data at input byte {}", token.len()),
        })?;
        let value: Value = serde_json::from_slice(&raw).map_err(|_| go_json::syntax(&raw))?;
        let version = value["v"].as_str().unwrap_or_default();
        if version != VERSION {
            return Err(format!("server does not recognize this encoded version {version}"));
        }
        let revision = match value["rv"].as_i64() {
            Some(-1) => None,
            Some(rv) if rv > 0 => u64::try_from(rv).ok(),
            _ => return Err(format!("incorrect encoded start resourceVersion (version {VERSION})")),
        };
        let start = value["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(format!("encoded start key empty (version {VERSION})"));
        }
        // A token is never a way out of its collection.
        if start.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(start.to_owned());
        }
        Ok(Self { revision, after: start.trim_end_matches('\0').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_survives_the_round_trip() {
        let token = Continue { revision: Some(42), after: "ns/name".into() };
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
    }

    #[test]
    fn a_limit_without_a_match_pins_the_revision() {
        let at = |query: &str| ListOptions::parse(&Query::parse(query), false).unwrap().snapshot().unwrap();
        assert_eq!(at("resourceVersion=7&limit=2"), Snapshot::Exact(7));
        assert_eq!(at("resourceVersion=7"), Snapshot::NotOlderThan(7));
        assert_eq!(at("resourceVersion=7&resourceVersionMatch=Exact"), Snapshot::Exact(7));
        assert_eq!(at("resourceVersion=0&limit=2"), Snapshot::Newest);
    }
}
