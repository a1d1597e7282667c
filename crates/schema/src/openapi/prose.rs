//! The descriptions of types and fields: compressed in the program, opened for one document at a time.

use std::collections::HashMap;
use std::io::Read as _;

use serde_json::Value;

pub(super) const DEFLATED: &[u8] = include_bytes!("../../data/prose.json.deflate");

pub(super) struct Prose(HashMap<String, HashMap<String, Value>>);

impl Prose {
    /// The data is part of the program, so that it can be read is sure.
    pub(super) fn open() -> Self {
        let mut json = Vec::new();
        flate2::read::ZlibDecoder::new(DEFLATED).read_to_end(&mut json).expect("the prose is deflated");
        Self(serde_json::from_slice(&json).expect("the prose is JSON"))
    }

    /// About a type as a whole.
    pub(super) fn of_type(&self, name: &str) -> Option<&str> {
        self.of_field(name, "")
    }

    pub(super) fn of_field(&self, name: &str, field: &str) -> Option<&str> {
        self.0.get(name)?.get(field)?.as_str()
    }

    /// What the type says of fields that exclude each other.
    pub(super) fn unions(&self, name: &str) -> Option<&Value> {
        self.0.get(name)?.get("x-kubernetes-unions")
    }
}
