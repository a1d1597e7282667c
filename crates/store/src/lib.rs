//! Durable revisioned objects: one commit log, reads and watches from memory.
