//! Decisions in a simulated world: stories with their transcript, plans, and thousands of seeds.

mod plans;
mod simulation;
mod specs;
mod stories;
mod world;
