//! The Rollout controller.
