//! Measures Sluice against its peers.

fn main() {}
