//! Puts the embedded parts together.
