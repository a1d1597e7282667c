//! Several streams in one WebSocket: the first byte of a message is its channel. No sockets here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, Bytes};

use super::websocket::{self, Message};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// In version 5, a message on this channel closes the channel that it names.
const CLOSE: u8 = 255;

/// How the end of a session is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// The bare message of a failure.
    V1,
    /// A `Status` object, also after success.
    V4,
    /// As `V4`, and clients may close their streams one by one.
    V5,
}

/// What a client and we agreed to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// As the handshake names it; empty where no protocol was named.
    pub(super) name: &'static str,
    pub(super) version: Version,
    /// Messages are text: a digit for the channel, then base64.
    base64: bool,
}

const fn dialect(name: &'static str, version: Version, base64: bool) -> Dialect {
    Dialect { name, version, base64 }
}

/// Of `exec` and `attach`.
pub(super) const COMMANDS: [Dialect; 6] = [
    dialect("v5.channel.k8s.io", Version::V5, false),
    dialect("v4.channel.k8s.io", Version::V4, false),
    dialect("v4.base64.channel.k8s.io", Version::V4, true),
    dialect("channel.k8s.io", Version::V1, false),
    dialect("base64.channel.k8s.io", Version::V1, true),
    dialect("", Version::V1, false),
];

/// Of `portforward`, where it is not tunnelled.
pub(super) const PORTS: [Dialect; 3] = [
    dialect("v4.channel.k8s.io", Version::V4, false),
    dialect("v4.base64.channel.k8s.io", Version::V4, true),
    dialect("", Version::V4, false),
];

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Data { channel: u8, bytes: Bytes },
    Closed { channel: u8 },
}

impl Dialect {
    /// The first of a client's protocols that we know.
    pub(super) fn choose(ours: &[Self], theirs: &[String]) -> Option<Self> {
        let find = |name: &str| ours.iter().find(|dialect| dialect.name == name).copied();
        if theirs.is_empty() {
            find("")
        } else {
            theirs.iter().filter(|name| !name.is_empty()).find_map(|name| find(name))
        }
    }

    /// `None` for messages that say nothing in this dialect.
    pub(super) fn read(self, message: Message) -> Option<Said> {
        let (channel, bytes) = match (message, self.base64) {
            (Message::Binary(mut bytes) | Message::Text(mut bytes), false) if !bytes.is_empty() => {
                (bytes.get_u8(), bytes)
            }
            (Message::Binary(mut bytes) | Message::Text(mut bytes), true) if !bytes.is_empty() => {
                let digit = bytes.get_u8().checked_sub(b'0').filter(|digit| *digit <= 9)?;
                (digit, Bytes::from(STANDARD.decode(&bytes).ok()?))
            }
            _ => return None,
        };
        match (channel, self.version, &bytes[..]) {
            (CLOSE, Version::V5, [channel]) => Some(Said::Closed { channel: *channel }),
            _ => Some(Said::Data { channel, bytes }),
        }
    }

    /// The frame of a message.
    pub(super) fn write(self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        if self.base64 {
            let text = format!("{channel}{}", STANDARD.encode(bytes));
            websocket::text(text.as_bytes())
        } else {
            websocket::binary(&[&[channel], bytes].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn chosen(ours: &[Dialect], theirs: &[&str]) -> Option<&'static str> {
        let theirs: Vec<String> = theirs.iter().map(|name| (*name).to_owned()).collect();
        Dialect::choose(ours, &theirs).map(|dialect| dialect.name)
    }

    #[test]
    fn the_clients_first_known_protocol_is_spoken() {
        assert_eq!(
            chosen(&COMMANDS, &["v6.channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"]),
            Some("v4.channel.k8s.io")
        );
        assert_eq!(chosen(&COMMANDS, &["v5.channel.k8s.io"]), Some("v5.channel.k8s.io"));
        assert_eq!(chosen(&COMMANDS, &[]), Some(""));
        assert_eq!(chosen(&COMMANDS, &["soap"]), None);
        assert_eq!(chosen(&COMMANDS, &[""]), None);
        assert_eq!(chosen(&PORTS, &["v5.channel.k8s.io"]), None);
    }

    #[test]
    fn messages_name_their_channel() {
        let [v5, v4, v4_base64, ..] = COMMANDS;
        let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
        let data = |channel, bytes: &'static [u8]| Some(Said::Data { channel, bytes: Bytes::from_static(bytes) });
        assert_eq!(v5.read(binary(b"\x00hi")), data(0, b"hi"));
        assert_eq!(v5.read(binary(b"\xff\x00")), Some(Said::Closed { channel: 0 }));
        assert_eq!(v5.read(binary(b"\xff")), data(255, b""));
        assert_eq!(v4.read(binary(b"\xff\x00")), data(255, b"\x00"), "only version 5 closes");
        assert_eq!(v4.read(binary(b"")), None);
        assert_eq!(v4.read(Message::Pong), None);
        assert_eq!(v4_base64.read(Message::Text(Bytes::from_static(b"4aGk="))), data(4, b"hi"));
        assert_eq!(v4_base64.read(Message::Text(Bytes::from_static(b"x"))), None);
        assert_eq!(v4_base64.read(Message::Text(Bytes::from_static(b"0?"))), None);
        assert_eq!(v4_base64.write(1, b"hi"), b"\x81\x051aGk=");
        assert_eq!(v5.write(1, b"hi"), b"\x82\x03\x01hi");
    }

    proptest! {
        #[test]
        fn any_message_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..6) {
            let _said = COMMANDS[which].read(Message::Text(Bytes::from(bytes)));
        }
    }
}
