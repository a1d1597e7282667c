//! The packet filter table of a node: pods reach the world under the machine's address, and host ports reach pods.
//!
//! The table is ours alone, and is replaced whole in one transaction: there is never a moment with half of it.

use std::{io, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{CREATE, Message, Socket};

const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const APPEND: u16 = 0x800;

const INTERNET: u8 = 2;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Bits of a connection's status: its destination was rewritten.
const DESTINATION_REWRITTEN: u32 = 1 << 5;
const LOCAL_ADDRESS: u32 = 2;

/// Everything that the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The network of the pods.
    pub(crate) network: Ipv4Addr,
    pub(crate) prefix_length: u8,
    pub(crate) host_ports: Vec<HostPort>,
}

/// A port of the machine that stands for one of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostPort {
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    /// Unspecified: any address of the machine.
    pub(crate) address: Ipv4Addr,
    pub(crate) pod: Ipv4Addr,
    pub(crate) pod_port: u16,
}

impl HostPort {
    /// The number of a protocol as Kubernetes names it.
    pub(crate) fn protocol(name: &str) -> Option<u8> {
        match name {
            "TCP" => Some(TCP),
            "UDP" => Some(UDP),
            "SCTP" => Some(SCTP),
            _ => None,
        }
    }
}

/// Puts the table in place of the one before; `None` takes it away.
pub(crate) fn replace(name: &str, table: Option<&Table>) -> io::Result<()> {
    Socket::netfilter()?.ask_all(transaction(name, table))
}

fn transaction(name: &str, table: Option<&Table>) -> Vec<Message> {
    let named = |kind, flags| {
        let mut message = message(kind, flags);
        message.put_text(1, name);
        message
    };
    // Removing what is not there fails, so it is made first.
    let mut messages = vec![batch(BATCH_BEGIN), named(NEW_TABLE, CREATE), named(DELETE_TABLE, 0)];
    if let Some(table) = table {
        messages.push(named(NEW_TABLE, CREATE));
        for (chain, hook, priority) in [("prerouting", 0, -100), ("output", 3, -100), ("postrouting", 4, 100)] {
            messages.push(base_chain(name, chain, hook, priority));
        }
        for port in &table.host_ports {
            for chain in ["prerouting", "output"] {
                messages.push(rule(name, chain, &to_pod(port)));
            }
        }
        let pods = Network { address: table.network, prefix_length: table.prefix_length };
        let machine = Network { address: Ipv4Addr::new(127, 0, 0, 0), prefix_length: 8 };
        let away = [from(&pods), vec![load_destination(), mask(&pods), compare(NOT_EQUAL, &pods.address.octets())]];
        messages.push(rule(name, "postrouting", &[away.concat(), vec![masquerade()]].concat()));
        for sender in [&pods, &machine] {
            // Back to a pod by way of the machine: the answer must come the same way.
            let returning = [from(sender), rewritten(), vec![masquerade()]];
            messages.push(rule(name, "postrouting", &returning.concat()));
        }
    }
    messages.push(batch(BATCH_END));
    messages
}

struct Network {
    address: Ipv4Addr,
    prefix_length: u8,
}

impl Network {
    fn mask(&self) -> [u8; 4] {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0).to_be_bytes()
    }
}

fn to_pod(port: &HostPort) -> Vec<Expression> {
    let mut expressions = vec![
        Expression::new("fib", &[(1, number(REGISTER_1)), (2, number(3)), (3, number(2))]),
        compare(EQUAL, &LOCAL_ADDRESS.to_ne_bytes()),
    ];
    if !port.address.is_unspecified() {
        expressions.extend([load_destination(), compare(EQUAL, &port.address.octets())]);
    }
    expressions.extend([
        // The protocol, and the port it is for.
        Expression::new("meta", &[(1, number(REGISTER_1)), (2, number(16))]),
        compare(EQUAL, &[port.protocol]),
        load(2, 2, 2),
        compare(EQUAL, &port.port.to_be_bytes()),
        immediate(REGISTER_1, &port.pod.octets()),
        immediate(REGISTER_2, &port.pod_port.to_be_bytes()),
        Expression::new(
            "nat",
            &[
                (1, number(1)),
                (2, number(u32::from(INTERNET))),
                (3, number(REGISTER_1)),
                (4, number(REGISTER_1)),
                (5, number(REGISTER_2)),
                (6, number(REGISTER_2)),
            ],
        ),
    ]);
    expressions
}

fn from(network: &Network) -> Vec<Expression> {
    vec![load(1, 12, 4), mask(network), compare(EQUAL, &network.address.octets())]
}

fn rewritten() -> Vec<Expression> {
    let status = Expression::new("ct", &[(1, number(REGISTER_1)), (2, number(2))]);
    let bit = bitwise(&DESTINATION_REWRITTEN.to_ne_bytes());
    vec![status, bit, compare(NOT_EQUAL, &[0; 4])]
}

fn masquerade() -> Expression {
    Expression::new("masq", &[])
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// One step of a rule.
#[derive(Debug, Clone)]
struct Expression {
    name: &'static str,
    attributes: Vec<(u16, Value)>,
}

#[derive(Debug, Clone)]
enum Value {
    Plain(Vec<u8>),
    /// Data that a register is loaded with or compared to.
    Data(Vec<u8>),
}

impl Expression {
    fn new(name: &'static str, attributes: &[(u16, Value)]) -> Self {
        Self { name, attributes: attributes.to_vec() }
    }
}

fn number(number: u32) -> Value {
    Value::Plain(number.to_be_bytes().to_vec())
}

/// Reads from the network (1) or transport (2) header.
fn load(header: u32, offset: u32, length: u32) -> Expression {
    Expression::new(
        "payload",
        &[(1, number(REGISTER_1)), (2, number(header)), (3, number(offset)), (4, number(length))],
    )
}

fn load_destination() -> Expression {
    load(1, 16, 4)
}

fn compare(operator: u32, data: &[u8]) -> Expression {
    Expression::new("cmp", &[(1, number(REGISTER_1)), (2, number(operator)), (3, Value::Data(data.to_vec()))])
}

fn mask(network: &Network) -> Expression {
    bitwise(&network.mask())
}

fn bitwise(mask: &[u8; 4]) -> Expression {
    Expression::new(
        "bitwise",
        &[
            (1, number(REGISTER_1)),
            (2, number(REGISTER_1)),
            (3, number(4)),
            (4, Value::Data(mask.to_vec())),
            (5, Value::Data(vec![0; 4])),
        ],
    )
}

fn immediate(register: u32, data: &[u8]) -> Expression {
    Expression::new("immediate", &[(1, number(register)), (2, Value::Data(data.to_vec()))])
}

fn batch(kind: u16) -> Message {
    Message::new(kind, 0, &[0, 0, 0, 10])
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[INTERNET, 0, 0, 0])
}

fn base_chain(table: &str, name: &str, hook: u32, priority: i32) -> Message {
    let mut message = message(NEW_CHAIN, CREATE);
    message.put_text(1, table).put_text(3, name);
    message.nest(4, |at| {
        at.put(1, &hook.to_be_bytes()).put(2, &priority.to_be_bytes());
    });
    message.put_text(7, "nat");
    message
}

fn rule(table: &str, chain: &str, expressions: &[Expression]) -> Message {
    let mut message = message(NEW_RULE, CREATE | APPEND);
    message.put_text(1, table).put_text(2, chain);
    message.nest(4, |list| {
        for expression in expressions {
            list.nest(1, |element| {
                element.put_text(1, expression.name).nest(2, |data| {
                    for (kind, value) in &expression.attributes {
                        match value {
                            Value::Plain(bytes) => data.put(*kind, bytes),
                            Value::Data(bytes) => data.nest(*kind, |value| {
                                value.put(1, bytes);
                            }),
                        };
                    }
                });
            });
        }
    });
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_masks() {
        let mask = |prefix_length| Network { address: Ipv4Addr::LOCALHOST, prefix_length }.mask();
        assert_eq!([mask(24), mask(8), mask(0)], [[255, 255, 255, 0], [255, 0, 0, 0], [0; 4]]);
    }

    #[test]
    fn a_table_is_replaced_in_one_batch() {
        let port = HostPort {
            protocol: TCP,
            port: 80,
            address: Ipv4Addr::UNSPECIFIED,
            pod: [10, 0, 0, 2].into(),
            pod_port: 8080,
        };
        let table =
            Table { name: "t".to_owned(), network: [10, 0, 0, 0].into(), prefix_length: 24, host_ports: vec![port] };
        let kinds = |table| {
            let messages = transaction("t", table);
            messages.iter().map(|message| u16::from_ne_bytes([message.bytes[4], message.bytes[5]])).collect::<Vec<_>>()
        };
        assert_eq!(kinds(None), [BATCH_BEGIN, NEW_TABLE, DELETE_TABLE, BATCH_END]);
        let all = kinds(Some(&table));
        assert_eq!((all[0], all[3], all[all.len() - 1]), (BATCH_BEGIN, NEW_TABLE, BATCH_END));
        let count = |kind| all.iter().filter(|other| **other == kind).count();
        assert_eq!((count(NEW_CHAIN), count(NEW_RULE)), (3, 5));
    }
}
