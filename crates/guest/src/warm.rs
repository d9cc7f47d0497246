//! A guest without a pod: it has booted, and waits to be given one.

use std::net::{Ipv6Addr, SocketAddr};

use peerpods_proto::payload::WarmPayload;
use peerpods_tunnel::channel::{AGENT_PORT, Claim, ListenerConfig, WarmEvent, WarmListener};

use crate::{error::GuestError, lease::Lease};

/// Waits for the claim; none where the worker was not heard for the length of the lease. The listener is closed then, so
/// that the agent's can take its place.
pub(crate) async fn claimed(payload: WarmPayload) -> Result<Option<Box<Claim>>, GuestError> {
    let lease = Lease::new(payload.lease);
    let trust = ListenerConfig {
        client_ca_pem: payload.client_ca,
        join_secret: Some(payload.join_secret),
        stock: None,
    };
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, AGENT_PORT));
    let mut listener = WarmListener::bind(address, trust).await?;
    tracing::info!("no pod yet: waiting to be claimed");
    loop {
        let event = tokio::select! {
            event = listener.next() => event?,
            () = lease.lapsed() => return Ok(None),
        };
        match event {
            WarmEvent::Heard => lease.renew(),
            WarmEvent::Claimed(claim) => {
                listener.close().await;
                return Ok(Some(claim));
            }
        }
    }
}
