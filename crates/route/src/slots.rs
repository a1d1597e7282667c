//! The backends of a table by slot, in chunks: the next generation copies the chunks that change and shares the rest.

use std::sync::Arc;

use crate::backend::Backend;

const CHUNK: usize = 64;

#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    chunks: Vec<Arc<[Option<Arc<Backend>>; CHUNK]>>,
}

impl Slots {
    pub(crate) fn get(&self, slot: usize) -> Option<&Arc<Backend>> {
        self.chunks.get(slot / CHUNK)?[slot % CHUNK].as_ref()
    }

    /// Gives what was there before.
    pub(crate) fn replace(&mut self, slot: usize, backend: Option<Arc<Backend>>) -> Option<Arc<Backend>> {
        while self.chunks.len() <= slot / CHUNK {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        std::mem::replace(&mut Arc::make_mut(&mut self.chunks[slot / CHUNK])[slot % CHUNK], backend)
    }

    /// Slots with a backend.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate();
        all.filter(|(_, backend)| backend.is_some()).map(|(slot, _)| slot)
    }
}
