//! SPDY/3.1, as far as streams into pods use it: `frame` reads and writes, `connection` keeps the streams apart.

mod connection;
mod frame;
mod headers;
#[cfg(test)]
pub(super) mod testing;

pub(super) use connection::{Connection, Opened, serve};
