//! Which objects of a collection a list or watch is about.

use sluice_model::selector::Selector;
use sluice_schema::Kind;
use sluice_schema::selector::FieldSelector;
use sluice_store::Entry;

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

    pub(crate) fn matches(&self, kind: &Kind, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        // The name is in the key: most objects that a name rules out need not be parsed.
        let wanted = self.name.as_deref().or_else(|| self.fields.as_ref().and_then(FieldSelector::name));
        if wanted.is_some_and(|name| entry.key.rsplit('/').next() != Some(name)) {
            return false;
        }
        let object = entry.value();
        self.labels.as_ref().is_none_or(|labels| labels.matches_labels(&object["metadata"]["labels"]))
            && self.fields.as_ref().is_none_or(|fields| fields.matches(kind, &object))
    }
}

fn parse_labels(text: &str) -> Result<Option<Selector>, Refusal> {
    let selector = Selector::parse(text).map_err(|error| Refusal::bad(error.to_string()))?;
    Ok((!selector.is_empty()).then_some(selector))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Option<FieldSelector>, Refusal> {
    let selector = FieldSelector::parse(kind, text).map_err(|error| Refusal::bad(error.to_string()))?;
    Ok((!selector.is_empty()).then_some(selector))
}
