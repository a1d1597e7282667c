//! The `sluice` binary: flags in, text out.

fn main() {}
