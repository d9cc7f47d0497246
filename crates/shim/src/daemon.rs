//! The process that stays: serves the task API until the pod is gone.

use std::{
    fs, io,
    os::{fd::AsFd, unix::net::UnixListener},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use ttrpc::asynchronous::{Server, transport::Listener};

use crate::{
    command_line::CommandLine, error::Error, events::Publisher, log, service, shim::Shim, transport,
};

/// The answer to the last request has to get out before the process ends.
const LAST_ANSWER_TIME: Duration = Duration::from_millis(500);

/// Serves until the runtime asks for the end. Standard input is the listening socket.
pub(crate) fn serve(command: &CommandLine) -> Result<(), Error> {
    let started = SystemTime::now();
    log::to_standard_error(command.debug);
    let listener = take_listener()?;
    // Signals to the runtime's process group are not for the pod.
    rustix::process::setsid().map_err(|error| Error::System {
        action: "leave the session",
        source: error.into(),
    })?;
    let socket = listener
        .local_addr()
        .ok()
        .and_then(|address| address.as_pathname().map(ToOwned::to_owned));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    let runtime = runtime.map_err(|source| Error::System {
        action: "start the runtime",
        source,
    })?;
    let result = runtime.block_on(run(command, listener, started));
    if let Some(socket) = socket {
        let _ = fs::remove_file(socket);
    }
    result
}

async fn run(command: &CommandLine, listener: UnixListener, started: SystemTime) -> Result<(), Error> {
    // A service manager that ends the runtime's unit must not end the pods. A handled signal, other than
    // an ignored one, is not inherited by anything.
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.map_err(|source| Error::System {
        action: "handle signals",
        source,
    })?;
    tokio::spawn(async move { while terminate.recv().await.is_some() {} });
    let (publisher, delivery) = Publisher::new(&command.namespace);
    let shim = Arc::new(Shim::new(&command.id, started, publisher));
    let connections = transport::connections(listener);
    let connections = connections.map_err(|source| Error::System {
        action: "listen",
        source,
    })?;
    let mut server = Server::new()
        .add_listener(Listener::new(connections))
        .register_service(service::services(&shim));
    let serving = server.start().await;
    serving.map_err(|error| Error::System {
        action: "serve",
        source: io::Error::other(error),
    })?;
    tracing::info!(id = command.id, pid = std::process::id(), "serving");
    shim.until_shutdown().await;
    // Stops to accept, and gives what is in flight a moment.
    let _ = timeout(LAST_ANSWER_TIME, server.shutdown()).await;
    drop(server);
    drop(shim);
    delivery.finish().await;
    tracing::info!("ended");
    Ok(())
}

/// Takes the socket out of standard input, where nothing can read it by mistake any more.
fn take_listener() -> Result<UnixListener, Error> {
    const ACTION: &str = "take over the listening socket";
    let failed = |source| Error::System {
        action: ACTION,
        source,
    };
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    if !rustix::net::sockopt::socket_acceptconn(&listener).unwrap_or(false) {
        let problem = "run with an action, this program does something; without one it is only run by itself";
        return Err(failed(io::Error::other(problem)));
    }
    let null = fs::File::open("/dev/null").map_err(Error::file("open", "/dev/null"))?;
    rustix::stdio::dup2_stdin(null).map_err(|error| failed(error.into()))?;
    Ok(UnixListener::from(listener))
}
