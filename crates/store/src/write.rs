//! What a writer asks for.

use std::fmt;

use bytes::Bytes;

use crate::Revision;

/// Makes the bytes of a write once its revision is known, on the committer's thread: keep it short.
pub type Render = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// One change of one key.
#[derive(Debug)]
pub struct Write {
    pub key: String,
    pub expect: Expect,
    pub op: Op,
}

/// What must hold when the write is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    Absent,
    /// The key is there, and this is its newest revision.
    Revision(Revision),
}

pub enum Op {
    Put(Render),
    /// Renders the last state, which watchers get with the deletion.
    Delete(Render),
}

impl Write {
    pub fn put(
        key: impl Into<String>,
        expect: Expect,
        render: impl FnOnce(Revision) -> Bytes + Send + 'static,
    ) -> Self {
        Self { key: key.into(), expect, op: Op::Put(Box::new(render)) }
    }

    pub fn delete(
        key: impl Into<String>,
        expect: Expect,
        render: impl FnOnce(Revision) -> Bytes + Send + 'static,
    ) -> Self {
        Self { key: key.into(), expect, op: Op::Delete(Box::new(render)) }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put(_) => "Put",
            Self::Delete(_) => "Delete",
        })
    }
}
