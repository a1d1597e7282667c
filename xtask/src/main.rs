//! Makes the generated data files and checks the house rules.

fn main() {}
