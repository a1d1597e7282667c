//! Reads tar archives from a stream, as image builders write them: ustar, GNU and PAX, long names, sparse files.
//!
//! Whatever stands in the archive, memory stays bounded and nothing here panics; what the entries do to a directory is
//! decided elsewhere.

mod header;
mod pax;
mod sparse;

use std::io::{self, Read};

use crate::limits::{MAX_PATH_BYTES, MAX_TAR_HEADER_BYTES};
use header::{BLOCK, Header};
use pax::Pax;
use sparse::Piece;

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since the epoch.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content goes in a file with holes; `None` for a plain file.
    sparse: Option<Vec<Piece>>,
    /// Of the file as it will be, holes included.
    pub(crate) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    /// Another name of a file that another entry, or a lower layer, has.
    Hardlink(Vec<u8>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    #[error("entry {0}: the header's checksum is wrong")]
    Checksum(u64),
    #[error("entry {entry}: field `{field}` is no number")]
    Number { entry: u64, field: &'static str },
    #[error("entry {entry}: unknown type `{kind}`")]
    Kind { entry: u64, kind: char },
    #[error("entry {entry}: {what} of {bytes} bytes, more than {limit}")]
    TooLong { entry: u64, what: &'static str, bytes: u64, limit: u64 },
    #[error("entry {entry}: {what}")]
    Malformed { entry: u64, what: &'static str },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Walks through an archive; the content of an entry must be read, or is skipped, before the next.
pub(crate) struct TarReader<R> {
    input: R,
    entries: u64,
    /// Content bytes of the present entry that were not read, and the padding after them.
    left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, entries: 0, left: 0, padding: 0 }
    }

    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header.kind() {
                b'x' => {
                    let text = self.extension(&header, "PAX header")?;
                    pax = Pax::parse(&text).map_err(|what| self.malformed(what))?;
                }
                // Global headers are remarks of whoever made the archive.
                b'g' => drop(self.extension(&header, "PAX header")?),
                b'L' => long_name = Some(until_nul(self.extension(&header, "long name")?)),
                b'K' => long_link = Some(until_nul(self.extension(&header, "long link name")?)),
                // The name of a GNU volume.
                b'V' => self.begin(header.size(self.entries)?),
                _ => return self.entry(&header, pax, long_name, long_link).map(Some),
            }
            self.skip_rest()?;
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let n = self.entries;
        let stored = match pax.size {
            Some(size) => size,
            None => header.size(n)?,
        };
        let path = pax.sparse.name.clone().or(pax.path).or(long_name).unwrap_or_else(|| header.path());
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link());
        for (what, text) in [("path", &path), ("link target", &link)] {
            if text.len() > MAX_PATH_BYTES {
                let (bytes, limit) = (text.len() as u64, MAX_PATH_BYTES as u64);
                return Err(TarError::TooLong { entry: n, what, bytes, limit });
            }
            if text.contains(&0) {
                return Err(self.malformed("a NUL byte in a name"));
            }
        }
        let kind = match header.kind() {
            // Archives older than the directory type mark directories by a slash.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink(link),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::CharDevice { major: header.device_major(n)?, minor: header.device_minor(n)? },
            b'4' => Kind::BlockDevice { major: header.device_major(n)?, minor: header.device_minor(n)? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(TarError::Kind { entry: n, kind: char::from(other) }),
        };
        // Other kinds have no content, whatever their size field says; some writers note a hard link's size there.
        self.begin(if kind == Kind::File { stored } else { 0 });
        let (sparse, size) = match (header.kind(), pax.sparse.is_used(), &kind) {
            (b'S', _, _) => {
                let map = self.old_gnu_map(header)?;
                (Some(map), header.sparse_size(n)?)
            }
            (_, true, Kind::File) => {
                let (map, size) = self.pax_map(&pax.sparse)?;
                (Some(map), size)
            }
            _ => (None, self.left),
        };
        if let Some(map) = &sparse {
            sparse::check(map, size, self.left).map_err(|what| self.malformed(what))?;
        }
        let uid = pax.uid.map_or_else(|| header.uid(n), Ok)?;
        let gid = pax.gid.map_or_else(|| header.gid(n), Ok)?;
        let mtime = pax.mtime.map_or_else(|| header.mtime(n).map(|seconds| (seconds, 0)), Ok)?;
        Ok(Entry { path, kind, mode: header.mode(n)?, uid, gid, mtime, xattrs: pax.xattrs, sparse, size })
    }

    /// Hands the content of the present entry over piece by piece, with the place it belongs at.
    pub(crate) fn content(
        &mut self,
        entry: &Entry,
        buffer: &mut [u8],
        mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), TarError> {
        let plain = [Piece { offset: 0, length: self.left }];
        for piece in entry.sparse.as_deref().unwrap_or(&plain) {
            let mut done = 0;
            while done < piece.length {
                let want = usize::try_from(piece.length - done).unwrap_or(usize::MAX).min(buffer.len());
                let n = self.read(&mut buffer[..want])?;
                if n == 0 {
                    return Err(TarError::Truncated);
                }
                write(piece.offset + done, &buffer[..n])?;
                done += n as u64;
            }
        }
        Ok(())
    }

    /// With what follows the archive's end: it belongs to the digest all the same.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    fn malformed(&self, what: &'static str) -> TarError {
        TarError::Malformed { entry: self.entries, what }
    }

    /// The next header, or `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        self.entries += 1;
        Header::new(block).ok_or(TarError::Checksum(self.entries)).map(Some)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(block))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The whole content of an entry that describes the next one.
    fn extension(&mut self, header: &Header, what: &'static str) -> Result<Vec<u8>, TarError> {
        let size = header.size(self.entries)?;
        if size > MAX_TAR_HEADER_BYTES {
            return Err(TarError::TooLong { entry: self.entries, what, bytes: size, limit: MAX_TAR_HEADER_BYTES });
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.by_ref_content().read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(TarError::Truncated) }
    }

    fn old_gnu_map(&mut self, header: &Header) -> Result<Vec<Piece>, TarError> {
        let n = self.entries;
        let mut map = Vec::new();
        let mut more = header.sparse_pieces(n, &mut map)?;
        while more {
            let block = self.block()?.ok_or(TarError::Truncated)?;
            more = header::sparse_block(&block, n, &mut map)?;
        }
        Ok(map)
    }

    fn pax_map(&mut self, sparse: &pax::Sparse) -> Result<(Vec<Piece>, u64), TarError> {
        let size = sparse.size.ok_or_else(|| self.malformed("a sparse file without its size"))?;
        if !sparse.map_in_content {
            return Ok((sparse.map.clone(), size));
        }
        let before = self.left;
        let map = sparse::read_map(&mut self.by_ref_content())?;
        // The map is padded to whole blocks, and what it used up belongs to no piece.
        let used = before - self.left;
        let rest = (BLOCK as u64 - used % BLOCK as u64) % BLOCK as u64;
        io::copy(&mut self.by_ref_content().take(rest), &mut io::sink())?;
        map.map(|map| (map, size)).map_err(|what| self.malformed(what))
    }

    fn by_ref_content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        loop {
            match self.input.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(n) => {
                    self.left -= n as u64;
                    return Ok(n);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.left.checked_add(self.padding).ok_or_else(|| self.malformed("an impossible size"))?;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        // Some writers leave out the padding after the very last entry.
        let enough = skipped >= self.left;
        (self.left, self.padding) = (0, 0);
        if enough { Ok(()) } else { Err(TarError::Truncated) }
    }
}

/// The content of the present entry as a stream.
struct Content<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + io::Seek> TarReader<R> {
    /// Where the content of the present entry begins.
    pub(crate) fn position(&mut self) -> io::Result<u64> {
        self.input.stream_position()
    }

    /// Jumps over the content instead of reading it.
    pub(crate) fn pass(&mut self) -> io::Result<()> {
        let rest = i64::try_from(self.left.saturating_add(self.padding)).map_err(io::Error::other)?;
        self.input.seek_relative(rest)?;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
mod tests;
