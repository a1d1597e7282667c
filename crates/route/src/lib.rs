//! Gateway API objects become an immutable routing table; a request head picks a backend.
