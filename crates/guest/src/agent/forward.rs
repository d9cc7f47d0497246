//! Port-forward: connections of the worker to the loopback of the pod.

use std::path::Path;

use peerpods_tunnel::{channel::ForwardListener, forward::GuestForwarder};

use crate::{
    boot::POD_NAMESPACE,
    lease::{Lease, Leased},
};

/// Serves every connection that comes to be forwarded; every byte from the worker renews the lease.
pub(crate) async fn forward(mut listener: ForwardListener, lease: Lease) {
    let forwarder = GuestForwarder::new(Path::new(POD_NAMESPACE));
    while let Ok(stream) = listener.accept().await {
        let Some(slot) = forwarder.slot() else {
            tracing::warn!("too many connections are forwarded: one more is turned away");
            continue;
        };
        let worker = Leased {
            stream,
            lease: lease.clone(),
        };
        let forwarder = forwarder.clone();
        tokio::spawn(async move {
            if let Err(error) = forwarder.serve(slot, worker).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a forward ended early");
            }
        });
    }
}
