//! The API as its callers see it: in this process, and once through TLS.

mod access;
mod custom;
mod deletes;
mod lists;
mod quotas;
mod speed;
mod streams;
mod tls;
mod town;
mod watches;
mod writes;
