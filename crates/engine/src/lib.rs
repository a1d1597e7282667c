//! Puts the embedded parts together: [`Engine::start`] brings up API, controllers, node and gateway in this process.
//!
//! Everything above the API talks to it through a `kube::Client` over the API's in-process service; which part may do what
//! is said by the identity its client carries. `definitions` holds the objects that are there from the first moment.

mod clients;
mod data;
mod definitions;
mod engine;
mod logs;
mod measure;
mod metrics;
mod options;
mod services;
mod streams;

pub use data::DataLost;
pub use engine::Engine;
pub use options::{DnsWish, Options, StartError};
pub use sluice_gateway::{LogFormat, Network};
pub use sluice_node::Driver;
pub use sluice_services::Wish as ServicesWish;
