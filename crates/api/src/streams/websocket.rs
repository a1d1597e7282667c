//! WebSocket frames (RFC 6455) as a server sees them: bytes in, messages out, and back. No sockets here.

use bytes::{Buf as _, Bytes, BytesMut};

/// The largest message we take: what clients send at once is a fraction of it.
pub(super) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Control frames are short by definition.
const MAX_CONTROL_BYTES: usize = 125;

/// How a client's handshake key is answered.
pub(super) fn accept(key: &str) -> String {
    use base64::Engine as _;
    // The constant is the protocol's own.
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// What a client must not send; the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WebSocketError {
    #[error("a frame is not masked")]
    Unmasked,
    #[error("a frame uses extensions that were not agreed on")]
    Extended,
    #[error("a frame has unknown opcode {0}")]
    Opcode(u8),
    #[error("a control frame is in pieces or too long")]
    Control,
    #[error("a message goes on that has not begun, or begins inside of another")]
    Order,
    #[error("a message is longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
}

/// Takes bytes as they come and gives messages as they are whole.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// The opcode and the pieces of a message that goes on.
    partial: Option<(u8, Vec<u8>)>,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Decoder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until there is one.
    pub(super) fn next(&mut self) -> Result<Option<Message>, WebSocketError> {
        while let Some((opcode, last, payload)) = self.frame()? {
            let message = match opcode {
                PING => Some(Message::Ping(payload.into())),
                PONG => Some(Message::Pong),
                CLOSE => Some(Message::Close),
                _ => self.join(opcode, last, payload)?,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    fn join(&mut self, opcode: u8, last: bool, payload: Vec<u8>) -> Result<Option<Message>, WebSocketError> {
        let (kind, joined) = match (opcode, self.partial.take()) {
            (CONTINUATION, Some((kind, mut before))) => {
                if before.len() + payload.len() > MAX_MESSAGE_BYTES {
                    return Err(WebSocketError::TooLong);
                }
                before.extend_from_slice(&payload);
                (kind, before)
            }
            (CONTINUATION, None) | (_, Some(_)) => return Err(WebSocketError::Order),
            (kind, None) => (kind, payload),
        };
        if !last {
            self.partial = Some((kind, joined));
            return Ok(None);
        }
        Ok(Some(if kind == TEXT { Message::Text(joined.into()) } else { Message::Binary(joined.into()) }))
    }

    /// The next whole frame: its opcode, whether it is the last of its message, its payload.
    fn frame(&mut self) -> Result<Option<(u8, bool, Vec<u8>)>, WebSocketError> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(WebSocketError::Extended);
        }
        if second & 0x80 == 0 {
            return Err(WebSocketError::Unmasked);
        }
        let (wide, length) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (2, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => (8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
            (126 | 127, _) => return Ok(None),
            (short, _) => (0, u64::from(short)),
        };
        match opcode {
            CONTINUATION | TEXT | BINARY if length > MAX_MESSAGE_BYTES as u64 => return Err(WebSocketError::TooLong),
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if !last || length > MAX_CONTROL_BYTES as u64 => return Err(WebSocketError::Control),
            CLOSE | PING | PONG => {}
            other => return Err(WebSocketError::Opcode(other)),
        }
        // It is small by now.
        let length = usize::try_from(length).map_err(|_| WebSocketError::TooLong)?;
        let (head, mask_bytes) = (2 + wide, 4);
        if self.buffer.len() < head + mask_bytes + length {
            return Ok(None);
        }
        self.buffer.advance(head);
        let mask = self.buffer.split_to(mask_bytes);
        let payload = self.buffer.split_to(length);
        let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Ok(Some((opcode, last, unmasked)))
    }
}

pub(super) fn binary(payload: &[u8]) -> Vec<u8> {
    frame(BINARY, payload)
}

pub(super) fn text(payload: &[u8]) -> Vec<u8> {
    frame(TEXT, payload)
}

pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload)
}

/// A normal end.
pub(super) fn close() -> Vec<u8> {
    frame(CLOSE, &1000u16.to_be_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        middle @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client makes it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(0, payload);
        out[0] = first;
        out[1] |= 0x80;
        let head = out.len() - payload.len();
        let mask = [1, 2, 3, 4];
        let body: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        out.truncate(head);
        out.extend(mask);
        out.extend(body);
        out
    }

    fn decode(pieces: &[Vec<u8>]) -> Result<Vec<Message>, WebSocketError> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(message) = decoder.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn the_key_of_the_standard_is_answered_as_there() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn messages_come_whole_and_control_frames_between_their_pieces() {
        let pieces =
            [masked(0x02, b"ab"), masked(0x89, b"hi"), masked(0x00, b"cd"), masked(0x80, b"e"), masked(0x81, b"t")];
        let expected = [
            Message::Ping(Bytes::from_static(b"hi")),
            Message::Binary(Bytes::from_static(b"abcde")),
            Message::Text(Bytes::from_static(b"t")),
        ];
        assert_eq!(decode(&pieces), Ok(expected.to_vec()));
        assert_eq!(decode(&[masked(0x88, &[3, 232])]), Ok(vec![Message::Close]));
    }

    #[test]
    fn lengths_have_three_forms() {
        for length in [0, 125, 126, 0xffff, 0x1_0000, MAX_MESSAGE_BYTES] {
            let expected = vec![7; length];
            let [Message::Binary(got)] = &decode(&[masked(0x82, &expected)]).expect("one message")[..] else {
                panic!("not one message of {length} bytes");
            };
            assert!(got == &expected, "{length}");
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        for (bytes, expected) in [
            (frame(BINARY, b"x"), WebSocketError::Unmasked),
            (masked(0xc2, b"x"), WebSocketError::Extended),
            (masked(0x83, b"x"), WebSocketError::Opcode(3)),
            (masked(0x09, b"x"), WebSocketError::Control),
            (masked(0x89, &[0; 126]), WebSocketError::Control),
            (masked(0x80, b"x"), WebSocketError::Order),
            ([masked(0x02, b"x"), masked(0x82, b"x")].concat(), WebSocketError::Order),
            (vec![0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0], WebSocketError::TooLong),
        ] {
            assert_eq!(decode(&[bytes]), Err(expected));
        }
        let large = vec![0; MAX_MESSAGE_BYTES];
        let too_much = [masked(0x02, &large), masked(0x80, b"x")];
        assert_eq!(decode(&too_much), Err(WebSocketError::TooLong));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..4),
            cut in 1usize..700,
        ) {
            let whole: Vec<u8> = payloads.iter().flat_map(|payload| masked(0x82, payload)).collect();
            let pieces: Vec<Vec<u8>> = whole.chunks(cut).map(<[u8]>::to_vec).collect();
            let expected: Vec<Message> = payloads.into_iter().map(|payload| Message::Binary(payload.into())).collect();
            prop_assert_eq!(decode(&pieces), Ok(expected));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _message_or_error = decode(&[bytes]);
        }
    }
}
