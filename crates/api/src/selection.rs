//! Which objects of a collection a list or watch is about.

use sluice_model::selector::Selector;
use sluice_schema::Kind;
use sluice_store::Entry;

use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::ListOptions;

/// Selectors, parsed. Matching parses an entry only when there is something to match.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: Option<Selector>,
    fields: Option<FieldSelector>,
    name: Option<String>,
}

impl Selection {
    pub(crate) fn parse(kind: &Kind, options: &ListOptions) -> Result<Self, Refusal> {
        let labels = parse_labels(&options.label_selector)?;
        let fields = parse_fields(kind, &options.field_selector)?;
        Ok(Self { labels, fields, name: None })
    }

    pub(crate) fn only_name(&mut self, name: &str) {
        self.name = Some(name.to_owned());
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none() && self.name.is_none()
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        let object = entry.value();
        self.name.as_ref().is_none_or(|name| object.name() == name)
            && self.labels.as_ref().is_none_or(|labels| labels.matches_labels(&object["metadata"]["labels"]))
            && self.fields.as_ref().is_none_or(|fields| fields_match(fields, object))
    }
}

// Seam: field selectors move to `sluice_schema::selector`.

#[derive(Debug, Clone)]
struct FieldSelector(Vec<(String, Test, String)>);
#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Equal,
    Different,
    Present,
    Absent,
}

fn terms(text: &str) -> Vec<(String, Test, String)> {
    let term = |term: &str| match term.split_once('=') {
        Some((key, value)) => {
            let value = value.trim_start_matches('=').trim().to_owned();
            match key.strip_suffix('!') {
                Some(key) => (key.trim().to_owned(), Test::Different, value),
                None => (key.trim().to_owned(), Test::Equal, value),
            }
        }
        None => match term.strip_prefix('!') {
            Some(key) => (key.trim().to_owned(), Test::Absent, String::new()),
            None => (term.trim().to_owned(), Test::Present, String::new()),
        },
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(term).collect()
}

fn holds(test: Test, found: Option<&str>, wanted: &str) -> bool {
    match test {
        Test::Equal => found == Some(wanted),
        Test::Different => found != Some(wanted),
        Test::Present => found.is_some(),
        Test::Absent => found.is_none(),
    }
}

fn parse_labels(text: &str) -> Result<Option<Selector>, Refusal> {
    let selector = Selector::parse(text).map_err(|error| Refusal::bad(error.to_string()))?;
    Ok((!selector.is_empty()).then_some(selector))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Option<FieldSelector>, Refusal> {
    let _ = kind;
    Ok((!text.trim().is_empty()).then(|| FieldSelector(terms(text))))
}

fn fields_match(selector: &FieldSelector, object: &serde_json::Value) -> bool {
    let lookup =
        |path: &str| object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(|v| v.as_str()).unwrap_or("");
    selector.0.iter().all(|(path, test, value)| holds(*test, Some(lookup(path)), value))
}
