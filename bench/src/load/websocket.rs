//! As much of WebSocket as an echo needs.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The handshake of RFC 6455, section 1.3.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLBmTxaQ9kYGzzhZRbK+xOo0=";
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
/// A code that says that whoever sends it goes away.
pub(super) const GOING_AWAY: u16 = 1001;
pub(super) const NORMAL: u16 = 1000;

#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// Why the other side closes.
    pub(super) fn code(&self) -> Option<u16> {
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let length = match head[1] & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        length => u64::from(length),
    };
    if length > super::body::LONGEST as u64 || head[0] & 0x70 != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no frame of ours"));
    }
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Message { kind: head[0] & 0x0f, payload })
}

/// Clients mask what they send.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> io::Result<()> {
    let mut frame = vec![0x80 | kind];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => frame.push(masked | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(masked | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let start = frame.len() + mask.map_or(0, |mask| mask.len());
    frame.extend(mask.into_iter().flatten());
    frame.extend_from_slice(payload);
    if let Some(mask) = mask {
        frame[start..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        for (length, mask) in
            [(0, None), (125, Some([1, 2, 3, 4])), (126, None), (65_000, Some([9, 8, 7, 6])), (65_536, None)]
        {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut bytes = Vec::new();
            write(&mut bytes, BINARY, &payload, mask).await.expect("written");
            let read = read(&mut bytes.as_slice()).await.expect("a message");
            assert_eq!((read.kind, read.payload), (BINARY, payload));
        }
    }
}
