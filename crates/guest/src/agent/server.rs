//! From a listening port to answered requests.

use std::sync::Arc;

use peerpods_proto::{
    agent_ttrpc::{create_agent_service, create_health},
    registry_ttrpc::create_image_credentials,
    statistics_ttrpc::create_statistics,
};
use peerpods_tunnel::channel::AgentListener;
use ttrpc::asynchronous::{Server, transport::Listener};

use super::{Sandbox, limit::limit, service::Service, unsupported};
use crate::{
    error::GuestError,
    lease::{Lease, Leased},
};

/// Serves the worker until the process ends; every byte from it renews the lease.
pub(crate) async fn serve(
    listener: AgentListener,
    sandbox: Arc<Sandbox>,
    lease: Lease,
) -> Result<Server, GuestError> {
    let connections = futures::stream::unfold((listener, lease), |(mut listener, lease)| async move {
        let accepted = listener.accept().await;
        let connection = accepted
            .map(|stream| Leased {
                stream,
                lease: lease.clone(),
            })
            .map_err(std::io::Error::other);
        Some((connection, (listener, lease)))
    });
    let service = Arc::new(Service { sandbox });
    let mut agent = create_agent_service(service.clone());
    unsupported::leave_out(&mut agent);
    agent.extend(create_image_credentials(service.clone()));
    agent.extend(create_statistics(service.clone()));
    // The health service is not limited: an agent that is busy is alive.
    limit(&mut agent);
    let mut server = Server::new().add_listener(Listener::new(connections));
    server = server
        .register_service(agent)
        .register_service(create_health(service));
    let serving = |error: ttrpc::Error| GuestError::System {
        action: "serve",
        source: std::io::Error::other(error),
    };
    server.start().await.map_err(serving)?;
    Ok(server)
}
