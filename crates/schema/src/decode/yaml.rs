//! YAML as `sigs.k8s.io/yaml` reads it: the first document only, scalars by the rules of YAML 1.1.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::MAX_DEPTH;
use super::node::{Node, number};

/// Nodes that aliases may add to a document.
const MAX_ALIASED_NODES: usize = 100_000;

/// Reads the first document; nothing at all is null. Duplicate keys are noticed with their line.
pub(super) fn parse(body: &[u8], notices: &mut Vec<String>) -> Result<Node, String> {
    let text = std::str::from_utf8(body).map_err(|_| "control characters are not allowed".to_owned())?;
    let parser = Parser::new_from_str(text);
    let mut composer = Composer { text, parser, notices, anchors: HashMap::new(), aliased: 0 };
    loop {
        match composer.next()? {
            None | Some((Event::StreamEnd, _)) => return Ok(Node::Null),
            Some((Event::StreamStart | Event::DocumentStart(..), _)) => {}
            Some((Event::DocumentEnd, _)) => return Ok(Node::Null),
            Some((event, span)) => return composer.node(event, span, 0),
        }
    }
}

struct Composer<'t, 'n> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    notices: &'n mut Vec<String>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

type Spanned<'t> = (Event<'t>, Span);

impl<'t> Composer<'t, '_> {
    fn next(&mut self) -> Result<Option<Spanned<'t>>, String> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((event, span))) if event.is_node() || is_structure(&event) => return Ok(Some((event, span))),
                // Comments and other things that are no data.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(explain(self.text, &error)),
            }
        }
    }

    fn following(&mut self) -> Result<Spanned<'t>, String> {
        self.next()?.ok_or_else(|| "found unexpected end of stream".to_owned())
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        let _ = span;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = scalar(&text, style, tag.as_ref())?;
                Ok(self.remember(anchor, node))
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.following()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                Ok(self.remember(anchor, Node::Array(items)))
            }
            Event::MappingStart(_, anchor, _) => {
                let node = self.mapping(depth)?;
                Ok(self.remember(anchor, node))
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or_else(|| "anchor contains itself".to_owned())?;
                self.aliased += size(&node);
                if self.aliased > MAX_ALIASED_NODES {
                    return Err("document contains excessive aliasing".to_owned());
                }
                Ok(node)
            }
            _ => Ok(Node::Null),
        }
    }

    fn remember(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, String> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = match self.following()? {
                (Event::MappingEnd, _) => break,
                next => next,
            };
            let line = span.start.line();
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.following()?;
            let value = self.node(event, span, depth + 1)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            let key = key_text(key)?;
            if let Some(&known) = index.get(&key) {
                self.notices.push(format!("line {line}: key {key:?} already set in map"));
                fields[known].1 = value;
            } else {
                index.insert(key.clone(), fields.len());
                fields.push((key, value));
            }
        }
        for value in merged {
            merge(&mut fields, value)?;
        }
        Ok(Node::Object(fields))
    }
}

fn is_structure(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd
            | Event::Alias(_)
    )
}

fn size(node: &Node) -> usize {
    match node {
        Node::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Object(fields) => 1 + fields.iter().map(|(_, value)| size(value)).sum::<usize>(),
        _ => 1,
    }
}

/// `<<`: fields of another map, where there are none of these names yet.
fn merge(fields: &mut Vec<(String, Node)>, value: Node) -> Result<(), String> {
    match value {
        Node::Object(more) => {
            for (name, value) in more {
                if !fields.iter().any(|(known, _)| *known == name) {
                    fields.push((name, value));
                }
            }
            Ok(())
        }
        Node::Array(maps) => maps.into_iter().try_for_each(|map| merge(fields, map)),
        _ => Err("map merge requires map or sequence of maps as the value".to_owned()),
    }
}

/// Keys of JSON are strings, whatever they look like in YAML.
fn key_text(key: Node) -> Result<String, String> {
    match key {
        Node::String(text) | Node::Number(text) => Ok(text),
        Node::Bool(b) => Ok(b.to_string()),
        Node::Null => Ok("null".to_owned()),
        Node::Array(_) | Node::Object(_) => Err("invalid map key: maps and lists cannot be keys".to_owned()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Result<Node, String> {
    let suffix = tag.and_then(|tag| tag.core_suffix());
    match suffix {
        Some("str") => return Ok(Node::String(text.to_owned())),
        Some(_) => return resolve(text),
        None => {}
    }
    // Any other tag, and `!` alone, makes it a string.
    if style != ScalarStyle::Plain || tag.is_some() {
        return Ok(Node::String(text.to_owned()));
    }
    resolve(text)
}

/// A plain scalar by the rules of YAML 1.1.
fn resolve(text: &str) -> Result<Node, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Node::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Node::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Node::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err("json: unsupported value: +Inf".to_owned());
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err("json: unsupported value: -Inf".to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Err("json: unsupported value: NaN".to_owned()),
        _ => numeric(text).map_or_else(|| Node::String(text.to_owned()), Node::Number),
    })
}

/// The number a text is, as JSON writes it.
fn numeric(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let radix = |prefix: [&str; 2], radix| {
        let digits = prefix.iter().find_map(|p| digits.strip_prefix(p))?;
        u64::from_str_radix(digits, radix).ok()
    };
    let octal = || {
        let all = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        all.then(|| u64::from_str_radix(digits, 8).ok()).flatten()
    };
    let whole =
        radix(["0x", "0X"], 16).or_else(|| radix(["0b", "0B"], 2)).or_else(|| radix(["0o", "0O"], 8)).or_else(octal);
    if let Some(whole) = whole.or_else(|| digits.parse::<u64>().ok()) {
        return Some(if whole == 0 { "0".to_owned() } else { format!("{sign}{whole}") });
    }
    is_float(digits).then(|| number(&format!("{sign}{digits}")).to_string())
}

/// `[0-9]*.[0-9]*` with at least one digit, and perhaps an exponent.
fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let numerals = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && numerals(e)
    });
    (!whole.is_empty() || !fraction.is_empty()) && numerals(whole) && numerals(fraction) && exponent_fits
}

/// The error in the words of Go's parser, where we know them.
fn explain(text: &str, error: &ScanError) -> String {
    let info = error.info();
    let line = error.marker().line();
    // Errors of its scanner count lines from one, those of its parser from zero; line zero is not told.
    let scanner = |words: &str| if line > 1 { format!("line {line}: {words}") } else { words.to_owned() };
    let parser = |words: &str| if line > 1 { format!("line {}: {words}", line - 1) } else { words.to_owned() };
    let has = |needle: &str| info.contains(needle);
    if has("mapping values") || has("not allowed in this context") && !has("tab") {
        scanner("mapping values are not allowed in this context")
    } else if has("tab") || has("unexpected character") {
        scanner("found character that cannot start any token")
    } else if has("unknown anchor") {
        let offset = error.marker().byte_offset().unwrap_or(0);
        let name: String = text
            .get(offset..)
            .unwrap_or_default()
            .trim_start_matches('*')
            .chars()
            .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            .collect();
        format!("unknown anchor '{name}' referenced")
    } else if has("unclosed quote") {
        format!("line {}: found unexpected end of stream", text.matches('\n').count() + 1)
    } else if has("',' or '}'") || has("unclosed bracket '{'") || has("flow mapping") {
        "line 1: did not find expected ',' or '}'".to_owned()
    } else if has("',' or ']'") || has("unclosed bracket '['") || has("flow sequence") {
        "line 1: did not find expected ',' or ']'".to_owned()
    } else if has("expected ':'") {
        scanner("could not find expected ':'")
    } else if has("did not find expected key") {
        parser("did not find expected key")
    } else if has("expected '-' indicator") {
        parser("did not find expected '-' indicator")
    } else {
        scanner(&info)
    }
}
