//! Forgetting connections that the kernel would go on rewriting.

use std::io;
use std::net::SocketAddr;

use crate::family::{Family, octets};
use crate::message::Message;
use crate::socket::Socket;

const DELETE: u16 = (1 << 8) | 2;
const UDP: u8 = 17;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
/// Compared are the sender, the protocol and the sender's port.
const SENDER_AND_PORT: u32 = 1 | (1 << 3) | (1 << 4);

/// Forgets every UDP conversation that this backend answers: there is no end of one that would do it.
pub fn forget_udp(backend: SocketAddr) -> io::Result<()> {
    match Socket::netfilter()?.ask(request(backend)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn request(backend: SocketAddr) -> Message {
    let family = Family::of(backend.ip());
    let sender = match family {
        Family::V4 => 1,
        Family::V6 => 3,
    };
    let mut message = Message::new(DELETE, 0, &[family.number(), 0, 0, 0]);
    message.nest(TUPLE_REPLY, |tuple| {
        tuple.nest(1, |ip| ip.put(sender, &octets(backend.ip())));
        tuple.nest(2, |protocol| protocol.put(1, &[UDP]).put(2, &backend.port().to_be_bytes()))
    });
    // These flags, unlike everything else, are counted as the machine counts.
    message.nest(FILTER, |filter| filter.put(2, &SENDER_AND_PORT.to_ne_bytes()));
    message
}
