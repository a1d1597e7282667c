//! One file of frames, written from its start again and again: space that is there already needs no new allocation,
//! which makes its fdatasync the cheaper one.

use std::io;

use redb::StorageBackend;

use super::AppendError;
use super::frame::{Frame, decode_all};

#[derive(Debug)]
pub(crate) struct Segment<F> {
    file: F,
    end: u64,
}

impl<F: StorageBackend> Segment<F> {
    /// With the frames that a crash left. Writing starts over: they are moved elsewhere before the first append.
    pub(crate) fn open(file: F) -> io::Result<(Self, Vec<Frame>)> {
        let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut content = vec![0; length];
        file.read(0, &mut content)?;
        Ok((Self { file, end: 0 }, decode_all(&content)))
    }

    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    pub(crate) fn restart(&mut self) {
        self.end = 0;
    }

    pub(crate) fn append(&mut self, frame: &[u8]) -> Result<(), AppendError> {
        // What a refused write left half done lies at the end, where the next one goes.
        self.file.write(self.end, frame).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                AppendError::Full
            }
            _ => AppendError::Broken(error),
        })?;
        // After a failed sync the kernel forgets what it could not write: nothing may build on it.
        self.file.sync_data().map_err(AppendError::Broken)?;
        self.end += frame.len() as u64;
        Ok(())
    }
}
