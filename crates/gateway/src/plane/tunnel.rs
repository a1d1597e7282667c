//! After a backend's 101 the two connections become one: bytes pass both ways until both sides are done.

use std::rc::Rc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::accept::Client;
use super::worker::Flight;

/// The flight lasts as long as the tunnel, and so does the place of whoever asked for it.
pub(crate) fn spawn(place: Rc<Client>, client: OnUpgrade, backend: OnUpgrade, flight: Flight) {
    tokio::task::spawn_local(async move {
        let both = futures::future::try_join(client, backend).await;
        let passed = match both {
            Ok((client, backend)) => copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend))
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = passed {
            tracing::debug!(error, "Tunnel ended");
        }
        drop((place, flight));
    });
}
