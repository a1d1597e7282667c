//! The data plane over real sockets: tables made by hand, backends that can be killed at once.

mod answers;
mod circuit;
mod clients;
mod compare;
mod corpus;
mod floods;
mod h2c;
mod leaving;
mod mirror;
mod removal;
mod retry;
mod rules;
mod slow;
mod tls;
pub(crate) mod town;
mod trust;
