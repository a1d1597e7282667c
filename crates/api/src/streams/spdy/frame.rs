//! SPDY/3.1 frames: bytes in, frames out, and back. No sockets here.

use bytes::{Buf as _, Bytes, BytesMut};

use super::headers::{Deflater, Headers, Inflater};

/// The largest frame we take: what clients send at once is a fraction of it.
const MAX_FRAME_BYTES: usize = 1 << 20;
const HEAD_BYTES: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;

/// A stream is refused for want of room.
pub(super) const REFUSED: u32 = 3;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Open {
        id: u32,
        last: bool,
        headers: Headers,
    },
    Data {
        id: u32,
        last: bool,
        bytes: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, windows and answers, which change nothing here.
    Other,
}

/// What a client must not send; the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("a frame is of version {0}, not {VERSION}")]
    Version(u16),
    #[error("a frame is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
    #[error("a frame of type {0} is too short")]
    TooShort(u16),
    #[error("a header block cannot be read")]
    Headers,
    #[error("a header block is too long")]
    HeadersTooLong,
}

/// Takes bytes as they come and gives frames as they are whole.
#[derive(Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
}

impl Decoder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until there is one.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let [a, b, c, d, flags, l0, l1, l2, ..] = self.buffer[..] else { return Ok(None) };
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(SpdyError::TooLong);
        }
        let control = a & 0x80 != 0;
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if control && version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        let last = flags & FIN != 0;
        if !control {
            let id = u32::from_be_bytes([a, b, c, d]);
            return Ok(Some(Frame::Data { id, last, bytes: payload }));
        }
        self.control(u16::from_be_bytes([c, d]), last, &payload).map(Some)
    }

    fn control(&mut self, kind: u16, last: bool, payload: &[u8]) -> Result<Frame, SpdyError> {
        let id = || {
            let id = payload.first_chunk::<4>().ok_or(SpdyError::TooShort(kind))?;
            Ok(u32::from_be_bytes(*id) & 0x7fff_ffff)
        };
        // Every header block goes through the inflater, or it could not read the next one.
        let mut headers = |from: usize| self.inflater.read(payload.get(from..).ok_or(SpdyError::TooShort(kind))?);
        Ok(match kind {
            1 => Frame::Open { id: id()?, last, headers: headers(10)? },
            2 | 8 => {
                headers(4)?;
                Frame::Other
            }
            3 => Frame::Reset { id: id()? },
            6 => Frame::Ping {
                id: payload.first_chunk().map(|id| u32::from_be_bytes(*id)).ok_or(SpdyError::TooShort(kind))?,
            },
            7 => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

/// Makes frames, in the order in which they are sent.
#[derive(Default)]
pub(super) struct Encoder(Deflater);

impl Encoder {
    /// The stream is taken.
    pub(super) fn reply(&mut self, id: u32) -> Vec<u8> {
        let block = self.0.write(&vec![]);
        control(2, 0, &[&id.to_be_bytes()[..], &block].concat())
    }
}

pub(super) fn data(id: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + bytes.len());
    out.extend_from_slice(&(id & 0x7fff_ffff).to_be_bytes());
    out.extend_from_slice(&flags_and_length(u8::from(last) * FIN, bytes.len()));
    out.extend_from_slice(bytes);
    out
}

pub(super) fn reset(id: u32, status: u32) -> Vec<u8> {
    control(3, 0, &[id.to_be_bytes(), status.to_be_bytes()].concat())
}

pub(super) fn ping(id: u32) -> Vec<u8> {
    control(6, 0, &id.to_be_bytes())
}

/// Nothing more comes; the last stream that was taken is named.
pub(super) fn go_away(last: u32) -> Vec<u8> {
    control(7, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat())
}

/// As clients open a stream.
#[cfg(test)]
pub(super) fn open(deflater: &mut Deflater, id: u32, flags: u8, headers: &Headers) -> Vec<u8> {
    let block = deflater.write(headers);
    control(1, flags, &[&id.to_be_bytes()[..], &[0; 6], &block].concat())
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (0x8000 | VERSION).to_be_bytes().to_vec();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&flags_and_length(flags, payload.len()));
    out.extend_from_slice(payload);
    out
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    (u32::from(flags) << 24 | length as u32 & 0x00ff_ffff).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[Vec<u8>]) -> Result<Vec<Frame>, SpdyError> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_are_read_as_they_were_meant() {
        let mut deflater = Deflater::default();
        let headers: Headers = vec![("streamtype".into(), "error".into())];
        let said = [
            open(&mut deflater, 1, FIN, &headers),
            open(&mut deflater, 3, 0, &headers),
            data(3, b"hello", false),
            data(3, b"", true),
            control(4, 0, &[0; 12]),
            ping(7),
            reset(3, 5),
            control(8, 0, &[&3u32.to_be_bytes()[..], &deflater.write(&headers)].concat()),
            go_away(3),
        ];
        let expected = [
            Frame::Open { id: 1, last: true, headers: headers.clone() },
            Frame::Open { id: 3, last: false, headers },
            Frame::Data { id: 3, last: false, bytes: Bytes::from_static(b"hello") },
            Frame::Data { id: 3, last: true, bytes: Bytes::new() },
            Frame::Other,
            Frame::Ping { id: 7 },
            Frame::Reset { id: 3 },
            Frame::Other,
            Frame::GoAway,
        ];
        assert_eq!(decode(&said), Ok(expected.to_vec()));
        let bytewise: Vec<Vec<u8>> = said.concat().into_iter().map(|byte| vec![byte]).collect();
        assert_eq!(decode(&bytewise), Ok(expected.to_vec()));
    }

    #[test]
    fn frames_are_written_as_the_draft_says() {
        assert_eq!(data(1, b"hi", true), b"\x00\x00\x00\x01\x01\x00\x00\x02hi");
        assert_eq!(ping(2), b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02");
        assert_eq!(reset(1, REFUSED), b"\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x03");
        let reply = Encoder::default().reply(5);
        assert_eq!(reply[..8], [0x80, 3, 0, 2, 0, 0, 0, (reply.len() - 8) as u8]);
        assert_eq!(Inflater::default().read(&reply[12..]), Ok(vec![]));
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        for (bytes, expected) in [
            (b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02".to_vec(), SpdyError::Version(2)),
            (b"\x80\x03\x00\x06\x00\xff\xff\xff".to_vec(), SpdyError::TooLong),
            (b"\x80\x03\x00\x06\x00\x00\x00\x01\x00".to_vec(), SpdyError::TooShort(6)),
            (b"\x80\x03\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01".to_vec(), SpdyError::TooShort(1)),
            (control(1, 0, &[1; 20]), SpdyError::Headers),
        ] {
            assert_eq!(decode(&[bytes]), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..500), 0..8),
            cut in 1usize..700,
        ) {
            let whole: Vec<u8> = payloads.iter().flat_map(|payload| data(1, payload, false)).collect();
            let pieces: Vec<Vec<u8>> = whole.chunks(cut).map(<[u8]>::to_vec).collect();
            let expected: Vec<Frame> =
                payloads.into_iter().map(|payload| Frame::Data { id: 1, last: false, bytes: payload.into() }).collect();
            prop_assert_eq!(decode(&pieces), Ok(expected));
        }

        #[test]
        fn no_bytes_are_too_strange(kind in 0u16..12, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _frames_or_error = decode(&[control(kind, 0, &bytes), bytes]);
        }
    }
}
