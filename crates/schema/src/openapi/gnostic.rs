//! Version 2 as protobuf (`openapi.v2.Document` of gnostic), the only form in which some clients take it.

use serde_json::{Map, Value};

/// Encodes a version 2 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.nest(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.nest(8, |paths| {
        for (path, item) in fields(&document["paths"]) {
            paths.named(2, path, |out| path_item(out, item));
        }
    });
    out.nest(9, |definitions| {
        for (name, definition) in fields(&document["definitions"]) {
            definitions.named(1, name, |out| schema(out, definition));
        }
    });
    for requirement in document["security"].as_array().into_iter().flatten() {
        out.nest(12, |out| {
            for (name, _) in fields(requirement) {
                out.named(1, name, |_| {});
            }
        });
    }
    out.nest(13, |out| {
        for (name, scheme) in fields(&document["securityDefinitions"]) {
            out.named(1, name, |item| {
                item.nest(2, |key| {
                    for (tag, field) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
                        key.text(tag, &scheme[field]);
                    }
                });
            });
        }
    });
    out.0
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn path_item(out: &mut Message, item: &Value) {
    for (tag, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if item[method].is_object() {
            out.nest(tag, |out| operation(out, &item[method]));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Message, operation: &Value) {
    out.texts(1, &operation["tags"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"]);
    out.nest(9, |responses| {
        for (code, response) in fields(&operation["responses"]) {
            responses.named(1, code, |value| {
                value.nest(1, |out| {
                    out.text(1, &response["description"]);
                    if response["schema"].is_object() {
                        out.nest(2, |item| item.nest(1, |out| schema(out, &response["schema"])));
                    }
                });
            });
        }
    });
    out.texts(10, &operation["schemes"]);
    extensions(out, 13, operation);
}

fn parameters(out: &mut Message, tag: u32, list: &Value) {
    for parameter in list.as_array().into_iter().flatten() {
        out.nest(tag, |item| {
            item.nest(1, |out| match parameter["in"].as_str() {
                Some("body") => out.nest(1, |body| {
                    body.text(1, &parameter["description"]);
                    body.text(2, &parameter["name"]);
                    body.text(3, &parameter["in"]);
                    body.flag(4, &parameter["required"]);
                    body.nest(5, |out| schema(out, &parameter["schema"]));
                }),
                place => out.nest(2, |other| {
                    let in_path = place == Some("path");
                    // Path parameters have one field less, which moves the others.
                    let (variant, kind, unique) = if in_path { (4, 5, 19) } else { (3, 6, 20) };
                    other.nest(variant, |out| {
                        out.flag(1, &parameter["required"]);
                        out.text(2, &parameter["in"]);
                        out.text(3, &parameter["description"]);
                        out.text(4, &parameter["name"]);
                        out.text(kind, &parameter["type"]);
                        out.flag(unique, &parameter["uniqueItems"]);
                    });
                }),
            });
        });
    }
}

fn schema(out: &mut Message, value: &Value) {
    for (tag, field) in [(1, "$ref"), (2, "format"), (3, "title"), (4, "description")] {
        out.text(tag, &value[field]);
    }
    if let Some(default) = value.get("default") {
        out.nest(5, |any| any.yaml(default));
    }
    for (tag, field) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.double(tag, &value[field]);
    }
    for (tag, field) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        out.flag(tag, &value[field]);
    }
    let sizes = [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ];
    for (tag, field) in sizes {
        out.integer(tag, &value[field]);
    }
    out.text(13, &value["pattern"]);
    out.texts(19, &value["required"]);
    for variant in value["enum"].as_array().into_iter().flatten() {
        out.nest(20, |any| any.yaml(variant));
    }
    match &value["additionalProperties"] {
        Value::Bool(allowed) => out.nest(21, |item| item.varint(2, u64::from(*allowed))),
        schema_of @ Value::Object(_) => out.nest(21, |item| item.nest(1, |out| schema(out, schema_of))),
        _ => {}
    }
    if value["type"].is_string() {
        out.nest(22, |item| item.text(1, &value["type"]));
    }
    if value["items"].is_object() {
        out.nest(23, |item| item.nest(1, |out| schema(out, &value["items"])));
    }
    for part in value["allOf"].as_array().into_iter().flatten() {
        out.nest(24, |out| schema(out, part));
    }
    if value["properties"].is_object() {
        out.nest(25, |properties| {
            for (name, property) in fields(&value["properties"]) {
                properties.named(1, name, |out| schema(out, property));
            }
        });
    }
    extensions(out, 31, value);
}

fn extensions(out: &mut Message, tag: u32, value: &Value) {
    for (name, extension) in fields(value).filter(|(name, _)| name.starts_with("x-")) {
        out.named(tag, name, |any| any.yaml(extension));
    }
}

/// A message while it is written; absent values leave nothing.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).expect("seven bits fit") | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).expect("less than 128"));
    }

    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.raw_varint(u64::from(tag) << 3 | 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, tag: u32, value: u64) {
        self.raw_varint(u64::from(tag) << 3);
        self.raw_varint(value);
    }

    fn text(&mut self, tag: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(tag, text.as_bytes());
        }
    }

    fn texts(&mut self, tag: u32, value: &Value) {
        for text in value.as_array().into_iter().flatten() {
            self.text(tag, text);
        }
    }

    fn flag(&mut self, tag: u32, value: &Value) {
        if value.as_bool() == Some(true) {
            self.varint(tag, 1);
        }
    }

    fn integer(&mut self, tag: u32, value: &Value) {
        if let Some(number) = value.as_u64() {
            self.varint(tag, number);
        }
    }

    fn double(&mut self, tag: u32, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.raw_varint(u64::from(tag) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn nest(&mut self, tag: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(tag, &inner.0);
    }

    /// A map entry: its name, and a message.
    fn named(&mut self, tag: u32, name: &str, write: impl FnOnce(&mut Message)) {
        self.nest(tag, |entry| {
            entry.bytes(1, name.as_bytes());
            entry.nest(2, write);
        });
    }

    /// gnostic's `Any`: YAML as text, of which JSON is a part.
    fn yaml(&mut self, value: &Value) {
        self.bytes(2, value.to_string().as_bytes());
    }
}
