//! Sets of paths, and their published form `fieldsV1`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::element::Element;
use super::place::Place;

/// Levels that a set may be deep: as deep as any JSON that was read.
const MAX_DEPTH: usize = 128;

/// A set of paths. Holding a path says nothing of the paths below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Element, Node>,
}

/// What is held of one element: itself, and paths below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Puts what is known of `element` into the set; nodes that hold nothing are left out.
    pub(super) fn put(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.nodes.entry(element) {
            Entry::Vacant(entry) => drop(entry.insert(node)),
            Entry::Occupied(mut entry) => {
                let old = entry.get_mut();
                old.member |= node.member;
                old.below = old.below.union(&node.below);
            }
        }
    }

    /// The set of one path of fields.
    pub(super) fn of_fields<'a>(path: impl IntoIterator<Item = &'a str, IntoIter: DoubleEndedIterator>) -> Self {
        let mut node = Node { member: true, below: Self::default() };
        let mut set = Self::default();
        for name in path.into_iter().rev() {
            set = Self::default();
            set.put(Element::field(name), node);
            node = Node { member: false, below: set.clone() };
        }
        set
    }

    pub(super) fn has_fields<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> bool {
        let mut set = self;
        let mut member = false;
        for name in path {
            let Some(node) = set.nodes.get(&Element::field(name)) else { return false };
            member = node.member;
            set = &node.below;
        }
        member
    }

    pub(super) fn node(&self, element: &Element) -> Option<&Node> {
        self.nodes.get(element)
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (element, node) in &other.nodes {
            union.put(element.clone(), node.clone());
        }
        union
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            let theirs = other.nodes.get(element)?;
            Some(Node { member: node.member && theirs.member, below: node.below.intersection(&theirs.below) })
        })
    }

    /// Exactly the paths of `other` are taken out; what lies below them stays.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            let Some(theirs) = other.nodes.get(element) else { return Some(node.clone()) };
            Some(Node { member: node.member && !theirs.member, below: node.below.difference(&theirs.below) })
        })
    }

    /// The paths of `other` are taken out with all that lies below them.
    pub(super) fn without(&self, other: &Self) -> Self {
        self.combine(|element, node| match other.nodes.get(element) {
            None => Some(node.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node { member: node.member, below: node.below.without(&theirs.below) }),
        })
    }

    /// Paths below what is one value by now become that value: the types may have changed since the set was written.
    pub(super) fn coarsened(&self, place: Place<'_>) -> Self {
        self.combine(|element, node| {
            let place = place.step(element);
            if !node.below.is_empty() && place.is_one_value() {
                return Some(Node { member: true, below: Self::default() });
            }
            Some(Node { member: node.member, below: node.below.coarsened(place) })
        })
    }

    /// Declared fields that have paths below them become paths of their own.
    pub(super) fn with_named_fields(&self, place: Place<'_>) -> Self {
        self.combine(|element, node| {
            let declared = matches!(element, Element::Field(name) if place.declares(name));
            let member = node.member || declared && !node.below.is_empty();
            Some(Node { member, below: node.below.with_named_fields(place.step(element)) })
        })
    }

    fn combine(&self, each: impl Fn(&Element, &Node) -> Option<Node>) -> Self {
        let kept = self.nodes.iter().filter_map(|(element, node)| Some((element.clone(), each(element, node)?)));
        Self { nodes: kept.filter(|(_, node)| !node.is_empty()).collect() }
    }

    /// All paths as messages print them: those that end in a node before those that go on below it.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            paths.push(format!("{prefix}{element}"));
        }
        for (element, node) in &self.nodes {
            node.below.collect_paths(&format!("{prefix}{element}"), paths);
        }
    }

    pub(super) fn encode(&self) -> Value {
        let entries = self.nodes.iter().map(|(element, node)| {
            let mut below = node.below.encode();
            if let (true, false, Some(map)) = (node.member, node.below.is_empty(), below.as_object_mut()) {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (element.encode(), below)
        });
        Value::Object(entries.collect())
    }

    pub(super) fn decode(fields: &Value) -> Result<Self, String> {
        Self::decode_level(fields, 0)
    }

    fn decode_level(fields: &Value, depth: usize) -> Result<Self, String> {
        let fields = match fields {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            other => return Err(format!("`{other}` is no set of fields")),
        };
        if depth > MAX_DEPTH {
            return Err(format!("a set of fields deeper than {MAX_DEPTH} levels"));
        }
        let mut set = Self::default();
        for (name, below) in fields.iter().filter(|(name, _)| *name != ".") {
            let Some(element) = Element::decode(name)? else { continue };
            let member = below.as_object().is_none_or(|below| below.is_empty() || below.contains_key("."));
            set.put(element, Node { member, below: Self::decode_level(below, depth + 1)? });
        }
        Ok(set)
    }
}
