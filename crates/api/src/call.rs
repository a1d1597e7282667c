//! One call of one verb: who asks for what, with which options.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sluice_schema::Kind;

use crate::identity::Identity;
use crate::request::{Accept, Query, Target};
use crate::server::Server;
use crate::storage::Key;
use crate::streams::Upgrade;

/// Everything a verb needs to know of a request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) server: Server,
    pub(crate) user: Identity,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) content_type: Option<String>,
    pub(crate) user_agent: String,
    pub(crate) body: Bytes,
    pub(crate) notices: Arc<Notices>,
    /// Another protocol that the connection is to speak from here on.
    pub(crate) upgrade: Option<Upgrade>,
}

impl Call {
    pub(crate) fn kind(&self) -> &Kind {
        &self.target.kind
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.target.namespace
    }

    /// The name in the path; empty for collections.
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    /// The place of the object in the path.
    pub(crate) fn key(&self) -> Key {
        Key::new(self.kind(), self.namespace(), self.name())
    }
}

/// What the answer says in `Warning` headers, each text once.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<Vec<String>>);

impl Notices {
    pub(crate) fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().expect("nobody panics while adding a notice");
        if !all.contains(&text) {
            all.push(text);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics while taking notices"))
    }
}
