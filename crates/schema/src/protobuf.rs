//! Protobuf bodies become JSON values by the tags of the generated types. Only reading: answers are always JSON.
//!
//! Fields that proto nests and JSON does not (`Volume.volumeSource`) are known as inlines of their struct. What this
//! yields is not yet canonical: it goes through `decode` like every other body.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::decode::{MAX_DEPTH, print_duration};
use crate::types::{Field, Scalar, Shape, Struct, Ty, Union};

const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no message of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: nested deeper than {MAX_DEPTH} messages")]
    TooDeep,
    #[error("proto: wrong wireType for field {0}")]
    WrongWireType(String),
    #[error("proto: time out of range in field {0}")]
    Time(String),
    #[error("proto: field {0} holds no JSON")]
    Raw(String),
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// What stands around every message: what it is, and its bytes.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub api_version: String,
    pub kind: String,
    pub raw: &'a [u8],
}

/// Opens `k8s\0` and the `runtime.Unknown` behind it.
pub fn envelope(body: &[u8]) -> Result<Envelope<'_>> {
    let rest = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoEnvelope)?;
    let mut unknown = Envelope { api_version: String::new(), kind: String::new(), raw: &[] };
    for part in Parts(rest) {
        match part? {
            (1, Part::Bytes(type_meta)) => {
                for part in Parts(type_meta) {
                    match part? {
                        (1, Part::Bytes(text)) => unknown.api_version = string(text),
                        (2, Part::Bytes(text)) => unknown.kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(raw)) => unknown.raw = raw,
            _ => {}
        }
    }
    Ok(unknown)
}

/// Reads a message of a built-in type.
pub fn decode(ty: Ty<'_>, message: &[u8]) -> Result<Value> {
    match ty.as_struct() {
        Some(def) => Ok(Value::Object(read_struct(ty, def, message, 0)?)),
        None => Ok(Value::Null),
    }
}

/// One field of a message as it stands on the wire.
enum Part<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<(u32, Part<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Parts<'a> {
    fn part(&mut self) -> Result<(u32, Part<'a>)> {
        let key = varint(&mut self.0)?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtobufError::Overflow)?;
        let part = match key & 7 {
            0 => Part::Varint(varint(&mut self.0)?),
            1 => Part::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken"))),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| ProtobufError::Truncated)?;
                Part::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Part::Fixed32
            }
            other => return Err(ProtobufError::WireType(other as u8)),
        };
        Ok((tag, part))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(ProtobufError::Truncated)?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return Err(ProtobufError::Overflow);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Overflow)
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_struct(ty: Ty<'_>, def: &Struct, message: &[u8], depth: usize) -> Result<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut object = Map::new();
    for part in Parts(message) {
        let (tag, part) = part?;
        if let Some((_, id)) = def.inlines.iter().find(|(inline, _)| *inline == tag) {
            let (inner, Part::Bytes(bytes)) = (ty.to(*id), part) else {
                return Err(ProtobufError::WrongWireType(def.name.clone()));
            };
            let inner_def = inner.as_struct().expect("inlines are structs");
            object.extend(read_struct(inner, inner_def, bytes, depth + 1)?);
            continue;
        }
        let found = def.fields.iter().find(|(_, field)| field.native.is_some_and(|n| n.tag == tag && tag != 0));
        // Fields of a newer client are skipped, as every reader of protobuf does.
        if let Some((name, field)) = found {
            read_field(ty, name, field, part, &mut object, depth)?;
        }
    }
    Ok(object)
}

fn read_field(
    ty: Ty<'_>,
    name: &str,
    field: &Field,
    part: Part<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let below = ty.to(field.ty);
    let wrong = || ProtobufError::WrongWireType(name.to_owned());
    match below.shape() {
        Shape::List(list) => {
            let item = ty.to(list.item);
            let slot = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let items = slot.as_array_mut().expect("made as a list just before");
            match (item.shape(), part) {
                // Numbers may come packed.
                (Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool), Part::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        items.push(read_value(item, name, Part::Varint(varint(&mut packed)?), depth)?);
                    }
                }
                (_, part) => items.push(read_value(item, name, part, depth)?),
            }
        }
        Shape::Map { value, .. } => {
            let Part::Bytes(entry) = part else { return Err(wrong()) };
            let slot = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let (key, value) = read_entry(ty.to(*value), name, entry, depth)?;
            slot.as_object_mut().expect("made as a map just before").insert(key, value);
        }
        _ => {
            let value = match field.native.and_then(|n| n.union) {
                Some(union) => read_union(ty, union, name, &part, depth)?,
                None => read_value(below, name, part, depth)?,
            };
            object.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

fn read_entry(ty: Ty<'_>, name: &str, entry: &[u8], depth: usize) -> Result<(String, Value)> {
    let mut key = String::new();
    let mut value = None;
    for part in Parts(entry) {
        match part? {
            (1, Part::Bytes(text)) => key = string(text),
            (2, part) => value = Some(read_value(ty, name, part, depth)?),
            _ => {}
        }
    }
    // A zero value is not written.
    let value = match value {
        Some(value) => value,
        None => match ty.shape() {
            Shape::Scalar(Scalar::String | Scalar::Bytes) => "".into(),
            Shape::List(_) => Value::Array(Vec::new()),
            _ => Value::Null,
        },
    };
    Ok((key, value))
}

fn read_value(ty: Ty<'_>, name: &str, part: Part<'_>, depth: usize) -> Result<Value> {
    match (ty.shape(), part) {
        (Shape::Scalar(scalar), part) => read_scalar(*scalar, name, part),
        (Shape::Struct(def), Part::Bytes(bytes)) => Ok(Value::Object(read_struct(ty, def, bytes, depth + 1)?)),
        (Shape::Any, Part::Bytes(bytes)) => read_raw(name, bytes),
        // A list inside a map or list is a message of its own, with the items in its first field.
        (Shape::List(list), Part::Bytes(bytes)) => {
            let mut items = Vec::new();
            for part in Parts(bytes) {
                if let (1, part) = part? {
                    items.push(read_value(ty.to(list.item), name, part, depth + 1)?);
                }
            }
            Ok(Value::Array(items))
        }
        _ => Err(ProtobufError::WrongWireType(name.to_owned())),
    }
}

/// Signs are two's complement in unsigned varints, whence the casts.
fn read_scalar(scalar: Scalar, name: &str, part: Part<'_>) -> Result<Value> {
    Ok(match (scalar, part) {
        (Scalar::String, Part::Bytes(text)) => string(text).into(),
        (Scalar::Bool, Part::Varint(n)) => (n != 0).into(),
        (Scalar::Int32, Part::Varint(n)) => (n as i32).into(),
        (Scalar::Int64, Part::Varint(n)) => (n as i64).into(),
        (Scalar::Number, Part::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Scalar::Bytes, Part::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
        (Scalar::Quantity, Part::Bytes(message)) => quantity(message)?,
        (Scalar::IntOrString, Part::Bytes(message)) => int_or_string(message)?,
        (Scalar::Time, Part::Bytes(message)) => time(name, message, "%Y-%m-%dT%H:%M:%SZ")?,
        (Scalar::MicroTime, Part::Bytes(message)) => time(name, message, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        (Scalar::Duration, Part::Bytes(message)) => print_duration(first_number(message)?).into(),
        (Scalar::FieldsV1, Part::Bytes(message)) => read_raw(name, message)?,
        _ => return Err(ProtobufError::WrongWireType(name.to_owned())),
    })
}

/// `Quantity{string string = 1}`.
fn quantity(message: &[u8]) -> Result<Value> {
    let mut text = "0".to_owned();
    for part in Parts(message) {
        if let (1, Part::Bytes(bytes)) = part? {
            text = string(bytes);
        }
    }
    Ok(text.into())
}

/// `IntOrString{type = 1, intVal = 2, strVal = 3}`.
fn int_or_string(message: &[u8]) -> Result<Value> {
    let (mut is_string, mut number, mut text) = (false, 0_i32, String::new());
    for part in Parts(message) {
        match part? {
            (1, Part::Varint(kind)) => is_string = kind == 1,
            (2, Part::Varint(n)) => number = n as i32,
            (3, Part::Bytes(bytes)) => text = string(bytes),
            _ => {}
        }
    }
    Ok(if is_string { text.into() } else { number.into() })
}

fn first_number(message: &[u8]) -> Result<i64> {
    let mut number = 0;
    for part in Parts(message) {
        if let (1, Part::Varint(n)) = part? {
            number = n as i64;
        }
    }
    Ok(number)
}

/// `Time{seconds = 1, nanos = 2}`; all zero is no time at all.
fn time(name: &str, message: &[u8], layout: &str) -> Result<Value> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for part in Parts(message) {
        match part? {
            (1, Part::Varint(n)) => seconds = n as i64,
            (2, Part::Varint(n)) => nanos = n as i32,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Time(name.to_owned()))?;
    Ok(time.strftime(layout).to_string().into())
}

/// `RawExtension{bytes raw = 1}` and its like: JSON inside protobuf.
fn read_raw(name: &str, message: &[u8]) -> Result<Value> {
    for part in Parts(message) {
        if let (1, Part::Bytes(raw)) = part? {
            return serde_json::from_slice(raw).map_err(|_| ProtobufError::Raw(name.to_owned()));
        }
    }
    Ok(Value::Null)
}

/// A schema in the first or second field, or the other form in the one left.
fn read_union(ty: Ty<'_>, union: Union, name: &str, part: &Part<'_>, depth: usize) -> Result<Value> {
    let Part::Bytes(message) = part else { return Err(ProtobufError::WrongWireType(name.to_owned())) };
    let (Union::OrArray(id) | Union::OrBool(id) | Union::OrStrings(id)) = union;
    let schema = |bytes: &[u8]| read_value(ty.to(id), name, Part::Bytes(bytes), depth + 1);
    let mut value = match union {
        Union::OrBool(_) => Value::Bool(false),
        _ => Value::Null,
    };
    for part in Parts(message) {
        match (union, part?) {
            (Union::OrBool(_), (1, Part::Varint(allows))) if !value.is_object() => value = (allows != 0).into(),
            (Union::OrBool(_), (2, Part::Bytes(bytes))) | (_, (1, Part::Bytes(bytes))) => value = schema(bytes)?,
            (Union::OrArray(_), (2, Part::Bytes(bytes))) => push(&mut value, schema(bytes)?),
            (Union::OrStrings(_), (2, Part::Bytes(bytes))) => push(&mut value, string(bytes).into()),
            _ => {}
        }
    }
    Ok(value)
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}
