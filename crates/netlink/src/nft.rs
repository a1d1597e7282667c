//! Packet filter tables: what is in one, and the one transaction that puts it in place of what was there.
//!
//! A table is described whole and replaced whole, so there is never a moment with half of it.

use std::net::IpAddr;

use crate::family::{Family, octets};
use crate::message::{APPEND, CREATE, Message};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const VERDICT: u32 = 0xffff_ff00;
const IS_MAP: u32 = 8;
/// An attribute ends at 64 KiB; no element is longer than a hundred bytes.
const ELEMENTS_OF_A_MESSAGE: usize = 500;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// What happens to the packets of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub chains: Vec<Chain>,
    pub maps: Vec<Map>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// Where packets enter it; none for a chain that others lead to.
    pub base: Option<Base>,
    pub rules: Vec<Vec<Step>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub kind: &'static str,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// From keys to data, or to chains. Every part of a key takes whole words of four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub name: String,
    pub key_bytes: u32,
    pub elements: Elements,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Whether a key is there is all there is to know.
    Keys(Vec<Vec<u8>>),
    Chains(Vec<(Vec<u8>, String)>),
    Data {
        bytes: u32,
        elements: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

/// A register of four bytes, counted from 0.
pub type Register = u32;

/// One step of a rule. An address takes as many registers as its family needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Source(Register),
    Destination(Register),
    Protocol(Register),
    DestinationPort(Register),
    /// The kind of the destination's address: see [`LOCAL`].
    DestinationKind(Register),
    /// The name of the interface that the packet leaves by, 16 bytes.
    OutInterface(Register),
    /// The bits of the connection's status: see [`DESTINATION_REWRITTEN`].
    ConnectionStatus(Register),
    /// One of so many numbers, each as often.
    Random(Register, u32),
    /// Puts these bytes into a register.
    Load(Register, Vec<u8>),
    Mask(Register, Vec<u8>),
    /// Goes on only when equal.
    Equal(Register, Vec<u8>),
    Unequal(Register, Vec<u8>),
    /// Goes on only when the map has the key in these registers.
    Known(Register, String),
    /// Goes to the chain that the map has for the key.
    Dispatch(Register, String),
    /// Loads what the map has for the key.
    Lookup {
        key: Register,
        map: String,
        into: Register,
    },
    /// A new destination: the address from this register on, the port in the register after it.
    RewriteDestination(Register),
    Masquerade,
    /// Answers that nobody listens there.
    Refuse,
}

/// The kind of address of the machine itself.
pub const LOCAL: u32 = 2;
/// In a connection's status.
pub const DESTINATION_REWRITTEN: u32 = 1 << 5;

/// Part of a key or of data: an address.
pub fn address(address: impl Into<IpAddr>) -> Vec<u8> {
    octets(address.into())
}

/// Part of a key: a protocol.
pub fn protocol(protocol: u8) -> [u8; 4] {
    [protocol, 0, 0, 0]
}

/// Part of a key or of data: a port.
pub fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Messages that put `tables` in place of those of this name, in one transaction; families without one lose theirs.
pub fn replacement(name: &str, families: &[Family], tables: &[Table]) -> Vec<Message> {
    let mut messages = vec![batch(BATCH_BEGIN)];
    // Removing what is not there fails, so it is made first.
    let cleared = |family: &Family| [named(NEW_TABLE, CREATE, *family, name), named(DELETE_TABLE, 0, *family, name)];
    messages.extend(families.iter().flat_map(cleared));
    messages.extend(tables.iter().flat_map(|table| content(name, table)));
    messages.push(batch(BATCH_END));
    messages
}

/// Messages that the kernel takes if it would take such a table, and that leave nothing.
pub fn trial(name: &str, table: &Table) -> Vec<Message> {
    let mut messages = vec![batch(BATCH_BEGIN)];
    messages.extend(content(name, table));
    messages.push(named(DELETE_TABLE, 0, table.family, name));
    messages.push(batch(BATCH_END));
    messages
}

fn content(name: &str, table: &Table) -> Vec<Message> {
    let at = Named { family: table.family, name };
    let mut messages = vec![named(NEW_TABLE, CREATE, table.family, name)];
    messages.extend(table.chains.iter().map(|chain| declaration(at, chain)));
    for (number, map) in (1..).zip(&table.maps) {
        messages.push(map_declaration(at, map, number));
        messages.extend(elements(at, map));
    }
    for chain in &table.chains {
        messages.extend(chain.rules.iter().map(|steps| rule(at, &chain.name, steps)));
    }
    messages
}

/// A table, as messages name it.
#[derive(Debug, Clone, Copy)]
struct Named<'a> {
    family: Family,
    name: &'a str,
}

impl Named<'_> {
    fn message(&self, kind: u16, flags: u16) -> Message {
        named(kind, flags, self.family, self.name)
    }
}

fn batch(kind: u16) -> Message {
    Message::new(kind, 0, &[0, 0, 0, 10])
}

fn named(kind: u16, flags: u16, family: Family, table: &str) -> Message {
    let mut message = Message::new(kind, flags, &[family.number(), 0, 0, 0]);
    message.put_text(1, table);
    message
}

fn declaration(table: Named<'_>, chain: &Chain) -> Message {
    let mut message = table.message(NEW_CHAIN, CREATE);
    message.put_text(3, &chain.name);
    if let Some(base) = chain.base {
        let priority = base.priority.to_be_bytes();
        message.nest(4, |at| at.put_number(1, base.hook as u32).put(2, &priority));
        message.put_text(7, base.kind);
    }
    message
}

fn map_declaration(table: Named<'_>, map: &Map, number: u32) -> Message {
    let mut message = table.message(NEW_SET, CREATE);
    message.put_text(2, &map.name);
    let data = match &map.elements {
        Elements::Keys(_) => None,
        Elements::Chains(_) => Some((VERDICT, 0)),
        Elements::Data { bytes, .. } => Some((0, *bytes)),
    };
    message.put_number(3, data.map_or(0, |_| IS_MAP)).put_number(4, 0).put_number(5, map.key_bytes);
    if let Some((kind, bytes)) = data {
        message.put_number(6, kind);
        if bytes > 0 {
            message.put_number(7, bytes);
        }
    }
    message.put_number(10, number);
    message
}

fn elements(table: Named<'_>, map: &Map) -> Vec<Message> {
    const GOTO: i32 = -4;
    type Fill<'a> = Box<dyn Fn(&mut Message) + 'a>;
    let key = |element: &mut Message, key: &[u8]| {
        element.nest(1, |value| value.put(1, key));
    };
    let all: Vec<Fill<'_>> = match &map.elements {
        Elements::Keys(keys) => {
            keys.iter().map(|one| Box::new(move |to: &mut Message| key(to, one)) as Fill<'_>).collect()
        }
        Elements::Chains(list) => {
            let one = |(from, chain): &'_ (Vec<u8>, String), to: &mut Message| {
                key(to, from);
                to.nest(2, |data| data.nest(2, |verdict| verdict.put(1, &GOTO.to_be_bytes()).put_text(2, chain)));
            };
            list.iter().map(|it| Box::new(move |to: &mut Message| one(it, to)) as Fill<'_>).collect()
        }
        Elements::Data { elements, .. } => {
            let one = |(from, value): &'_ (Vec<u8>, Vec<u8>), to: &mut Message| {
                key(to, from);
                to.nest(2, |data| data.put(1, value));
            };
            elements.iter().map(|it| Box::new(move |to: &mut Message| one(it, to)) as Fill<'_>).collect()
        }
    };
    let message = |chunk: &[Fill<'_>]| {
        let mut message = table.message(NEW_ELEMENTS, CREATE);
        message.put_text(2, &map.name);
        message.nest(3, |list| {
            for fill in chunk {
                list.nest(1, |element| {
                    fill(element);
                    element
                });
            }
            list
        });
        message
    };
    all.chunks(ELEMENTS_OF_A_MESSAGE).map(message).collect()
}

fn rule(table: Named<'_>, chain: &str, steps: &[Step]) -> Message {
    let mut message = table.message(NEW_RULE, CREATE | APPEND);
    message.put_text(2, chain);
    message.nest(4, |list| {
        for step in steps {
            list.nest(1, |element| {
                element.put_text(1, step.name());
                element.nest(2, |attributes| {
                    step.write(attributes, table.family);
                    attributes
                })
            });
        }
        list
    });
    message
}

/// Registers of four bytes are numbered from here.
fn number(register: Register) -> u32 {
    8 + register
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Source(_) | Self::Destination(_) | Self::DestinationPort(_) => "payload",
            Self::Protocol(_) | Self::OutInterface(_) => "meta",
            Self::DestinationKind(_) => "fib",
            Self::ConnectionStatus(_) => "ct",
            Self::Random(..) => "numgen",
            Self::Load(..) => "immediate",
            Self::Mask(..) => "bitwise",
            Self::Equal(..) | Self::Unequal(..) => "cmp",
            Self::Known(..) | Self::Dispatch(..) | Self::Lookup { .. } => "lookup",
            Self::RewriteDestination(_) => "nat",
            Self::Masquerade => "masq",
            Self::Refuse => "reject",
        }
    }

    fn write(&self, to: &mut Message, family: Family) {
        let (source, destination) = match family {
            Family::V4 => (12, 16),
            Family::V6 => (8, 24),
        };
        /// Reads from the network (1) or transport (2) header.
        fn load(to: &mut Message, register: Register, header: u32, offset: u32, length: u32) {
            to.put_number(1, number(register)).put_number(2, header).put_number(3, offset).put_number(4, length);
        }
        fn compare(to: &mut Message, register: Register, operator: u32, data: &[u8]) {
            to.put_number(1, number(register)).put_number(2, operator).nest(3, |value| value.put(1, data));
        }
        match self {
            Self::Source(register) => load(to, *register, 1, source, family.address_bytes()),
            Self::Destination(register) => load(to, *register, 1, destination, family.address_bytes()),
            Self::DestinationPort(register) => load(to, *register, 2, 2, 2),
            Self::Protocol(register) => {
                to.put_number(1, number(*register)).put_number(2, 16);
            }
            Self::OutInterface(register) => {
                to.put_number(1, number(*register)).put_number(2, 7);
            }
            Self::DestinationKind(register) => {
                to.put_number(1, number(*register)).put_number(2, 3).put_number(3, 2);
            }
            Self::ConnectionStatus(register) => {
                to.put_number(1, number(*register)).put_number(2, 2);
            }
            Self::Random(register, count) => {
                to.put_number(1, number(*register)).put_number(2, *count).put_number(3, 1).put_number(4, 0);
            }
            Self::Load(register, data) => {
                to.put_number(1, number(*register)).nest(2, |value| value.put(1, data));
            }
            Self::Mask(register, mask) => {
                let length = u32::try_from(mask.len()).expect("registers are short");
                to.put_number(1, number(*register)).put_number(2, number(*register)).put_number(3, length);
                to.nest(4, |value| value.put(1, mask)).nest(5, |value| value.put(1, &vec![0; mask.len()]));
            }
            Self::Equal(register, data) => compare(to, *register, 0, data),
            Self::Unequal(register, data) => compare(to, *register, 1, data),
            Self::Known(key, map) => {
                to.put_text(1, map).put_number(2, number(*key));
            }
            // Register 0 is where to go.
            Self::Dispatch(key, map) => {
                to.put_text(1, map).put_number(2, number(*key)).put_number(3, 0);
            }
            Self::Lookup { key, map, into } => {
                to.put_text(1, map).put_number(2, number(*key)).put_number(3, number(*into));
            }
            Self::RewriteDestination(register) => {
                let (address, port) = (number(*register), number(*register + family.address_bytes() / 4));
                to.put_number(1, 1).put_number(2, u32::from(family.number()));
                to.put_number(3, address).put_number(4, address).put_number(5, port).put_number(6, port);
            }
            Self::Masquerade => {}
            // By ICMP: port unreachable.
            Self::Refuse => {
                let code = if family == Family::V4 { 3 } else { 4 };
                to.put_number(1, 0).put(2, &[code]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_in_one_batch() {
        let base = Base { kind: "nat", hook: Hook::Output, priority: -100 };
        let keys = (0..1_200u32).map(|key| key.to_be_bytes().to_vec()).collect();
        let table = Table {
            family: Family::V6,
            chains: vec![Chain { name: "out".to_owned(), base: Some(base), rules: vec![vec![Step::Masquerade]] }],
            maps: vec![Map { name: "m".to_owned(), key_bytes: 4, elements: Elements::Keys(keys) }],
        };
        let both = [Family::V4, Family::V6];
        let kinds = |tables: &[Table]| replacement("t", &both, tables).iter().map(Message::kind).collect::<Vec<_>>();
        let cleared = [BATCH_BEGIN, NEW_TABLE, DELETE_TABLE, NEW_TABLE, DELETE_TABLE];
        assert_eq!(kinds(&[]), [&cleared[..], &[BATCH_END]].concat());
        let (before, after) = ([&cleared[..], &[NEW_TABLE]].concat(), [NEW_RULE, BATCH_END]);
        let content = [NEW_CHAIN, NEW_SET, NEW_ELEMENTS, NEW_ELEMENTS, NEW_ELEMENTS];
        assert_eq!(kinds(&[table]), [&before[..], &content[..], &after[..]].concat());
    }
}
