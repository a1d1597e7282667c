//! The gateway against the API that it runs beside, with backends on loopback addresses.

mod ingress;
mod peers;
mod served;
mod tls;
mod world;
