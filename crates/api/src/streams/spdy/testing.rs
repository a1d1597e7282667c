//! A client of SPDY, as far as tests need one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::frame::{self, Decoder, Frame};
use super::headers::Deflater;

/// Nothing here takes longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    io: DuplexStream,
    deflater: Deflater,
    decoder: Decoder,
    said: HashMap<u32, Vec<u8>>,
    ended: HashSet<u32>,
    refused: HashSet<u32>,
}

impl Client {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Self {
            io,
            deflater: Deflater::default(),
            decoder: Decoder::default(),
            said: HashMap::new(),
            ended: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    pub(crate) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let frame = frame::open(&mut self.deflater, id, 0, &headers);
        self.io.write_all(&frame).await.expect("the server reads");
    }

    pub(crate) async fn data(&mut self, id: u32, bytes: &[u8], last: bool) {
        self.io.write_all(&frame::data(id, bytes, last)).await.expect("the server reads");
    }

    /// What the server says on a stream until it ends it.
    pub(crate) async fn whole(&mut self, id: u32) -> Vec<u8> {
        while !self.ended.contains(&id) {
            self.hear().await;
        }
        self.said.remove(&id).unwrap_or_default()
    }

    pub(crate) async fn is_refused(&mut self, id: u32) -> bool {
        while !self.refused.contains(&id) {
            self.hear().await;
        }
        true
    }

    async fn hear(&mut self) {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.io.read(&mut buffer)).await.expect("the server says something");
        let length = read.expect("the connection stands");
        assert_ne!(length, 0, "the server has hung up");
        self.decoder.feed(&buffer[..length]);
        while let Some(frame) = self.decoder.next().expect("frames") {
            match frame {
                Frame::Data { id, last, bytes } => {
                    self.said.entry(id).or_default().extend_from_slice(&bytes);
                    if last {
                        self.ended.insert(id);
                    }
                }
                Frame::Reset { id } => drop(self.refused.insert(id)),
                _ => {}
            }
        }
    }
}
