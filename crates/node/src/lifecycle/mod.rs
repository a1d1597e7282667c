//! The life of a pod as a pure state machine.
