//! The daemon's life: settings, journal, replay, service, end.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, process::ExitCode, sync::Arc};

use clap::Parser;
use peerpods_api::names::SETTINGS_EXIT_CODE;
use peerpods_error::chain;
use peerpods_probes::{Answer, Question};
use peerpods_proto::{
    hypervisor_ttrpc::create_hypervisor, registry_ttrpc::create_registry_credentials,
    shim_settings::ShimSettings,
};
use peerpods_provider::{OwnerScope, Provider, ProviderError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use ttrpc::asynchronous::Server;

use crate::{
    credentials::{Credentials, CredentialsService},
    external_network::ExternalNetwork,
    host::{GuestDefaults, Node, PodDirectories, end_orphans},
    journal::Journal,
    kubernetes::{Access, Cluster},
    last_words,
    metrics::{Measured, Metrics},
    peer_pods::{PeerPodObjects, PeerPods},
    provider,
    sandbox::{Limits, Sandboxes},
    service::{Identity, Service},
    settings::Settings,
    warm::{self, Pool, PoolSettings},
};

/// For the journal, which writes one record at a time, and for reading files: more would only wait for the disk.
const BLOCKING_THREADS: usize = 4;
/// Whoever reaches the socket makes VMs: that is root, whatever the socket's folder allows.
const SOCKET_MODE: u32 = 0o600;

/// Runs the daemon until SIGTERM or SIGINT; VMs go on without it.
pub fn main() -> ExitCode {
    let settings = Settings::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() {
            last_words::leave(&last_words::of_arguments(&error));
        }
        error.exit()
    });
    peerpods_log::to_standard_error(peerpods_log::level(settings.log_level));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let folder = settings.journal_dir.clone();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(Fatal::of("start")(error)),
    };
    // With the runtime all tasks have ended: nobody writes to the journal any more.
    let outcome = outcome.and_then(|journal| journal.close(&folder).map_err(Fatal::of("close the journal")));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            last_words::leave(&error.to_string());
            error.exit_code()
        }
    }
}

/// What ends the daemon: an administrator has to do something about it.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    /// The settings, or the credentials, are to be changed.
    #[error("cannot {action}: {cause}")]
    Settings { action: &'static str, cause: String },
    /// The node or the provider does not let it.
    #[error("cannot {action}: {cause}")]
    Failed { action: &'static str, cause: String },
}

impl Fatal {
    fn of<E: std::error::Error>(action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Failed {
            action,
            cause: chain(&error),
        }
    }

    fn of_provider(error: ProviderError) -> Self {
        let action = "set up the provider";
        match &error {
            ProviderError::InvalidRequest(cause) => Self::Settings {
                action,
                cause: cause.clone(),
            },
            ProviderError::Denied { .. } => Self::Settings {
                action,
                cause: chain(&error),
            },
            _ => Self::of(action)(error),
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings { .. } => ExitCode::from(SETTINGS_EXIT_CODE),
            Self::Failed { .. } => ExitCode::FAILURE,
        }
    }
}

/// Serves shims until the end; gives the journal back.
async fn run(settings: Settings) -> Result<Journal, Fatal> {
    let for_shims = ShimSettings {
        host_paths: settings.host_paths,
        log_level: settings.log_level,
    };
    let external_network = ExternalNetwork::choose(
        settings.cloud_provider,
        settings.external_network_via_podvm,
        settings.pod_subnet_cidrs.clone(),
    );
    let external_network = external_network.map_err(|error| Fatal::Settings {
        action: "use the settings",
        cause: error.to_string(),
    })?;
    let directories = PodDirectories::new(settings.pods_dir.clone(), for_shims);
    let directories = directories.map_err(Fatal::of("use the settings"))?;
    let journal = Journal::open(&settings.journal_dir).map_err(Fatal::of("open the journal"))?;
    let metrics = Arc::new(Metrics::default());
    let provider = provider::choose(&settings).await.map_err(Fatal::of_provider)?;
    let provider: Arc<dyn Provider> = Arc::new(Measured::new(provider, metrics.clone()));
    let limits = Limits {
        boot: settings.proxy_timeout,
        ..Limits::default()
    };
    let cluster = Cluster::new(Access::choose(settings.kubeconfig.clone()));
    let peer_pods = (settings.peer_pods == PeerPodObjects::Write && cluster.is_configured())
        .then(|| PeerPods::new(cluster.clone(), journal.clone(), settings.cloud_provider.name()));
    let pool = Pool::new(
        provider.clone(),
        journal.clone(),
        PoolSettings {
            size: settings.warm_vms,
            cluster: settings.cluster_id.clone(),
            node: settings.node_name.clone(),
            lease: settings.lease,
            scratch_encryption: settings.scratch_encryption,
            agent_port: settings.forwarder_port,
            limits,
        },
    );
    let left = journal
        .read()
        .map_err(Fatal::of("take up the warm VMs of the journal"))?
        .warm;
    let node = Arc::new(Node {
        provider,
        pool: pool.clone(),
        directories: directories.clone(),
        guest: GuestDefaults {
            lease: settings.lease,
            insecure_registries: settings.insecure_registries.clone(),
            scratch_encryption: settings.scratch_encryption,
            instance_metadata: settings.instance_metadata,
            agent_port: settings.forwarder_port,
        },
        limits,
        peer_pods: peer_pods.clone(),
        cluster: cluster.clone(),
    });
    let sandboxes = Sandboxes::new(journal.clone(), node.clone(), metrics.clone());
    sandboxes
        .replay()
        .map_err(Fatal::of("take up the sandboxes of the journal"))?;

    let service = Service {
        sandboxes: sandboxes.clone(),
        directories,
        identity: Arc::new(Identity {
            cluster: settings.cluster_id.clone(),
            node: settings.node_name.clone(),
            address: settings.node_address,
            vxlan_port: settings.vxlan_port,
            external_network,
        }),
    };
    let credentials = CredentialsService {
        credentials: Arc::new(Credentials::new(
            cluster,
            settings.image_pull_secrets,
            settings.auth_json_file.clone(),
        )),
        sandboxes: sandboxes.clone(),
    };
    let mut server = listen(&settings.socket, service, credentials)?;
    server.start().await.map_err(Fatal::of("serve the socket"))?;
    tracing::info!(socket = %settings.socket.display(), "shims are served");

    let probes = TcpListener::bind(settings.health_address);
    let probes = probes.await.map_err(Fatal::of("listen on HEALTH_ADDRESS"))?;
    let (figured, waiting) = (sandboxes.clone(), pool.clone());
    // It listens once shims are served, and a task that panics ends no other: whoever is answered is told the truth.
    tokio::spawn(peerpods_probes::serve(probes, move |question| match question {
        Question::Healthy | Question::Ready => Answer::Yes,
        Question::Metrics => Answer::Metrics(metrics.text(&figured.states(), waiting.count())),
    }));
    tokio::spawn(pool.clone().keep_departing());
    tokio::spawn(warm::keep(pool, left));
    let scope = OwnerScope {
        cluster: settings.cluster_id,
        node: Some(settings.node_name),
    };
    if let Some(peer_pods) = peer_pods {
        keep_peer_pods(peer_pods, node.clone(), sandboxes.clone(), scope.clone());
    }
    tokio::spawn(async move { end_orphans(&node, &sandboxes, &scope).await });
    wait_for_the_end().await?;
    end(server).await;
    Ok(journal)
}

/// What is done about PeerPods beside what sandboxes do, for as long as the process lives.
fn keep_peer_pods(peer_pods: PeerPods, node: Arc<Node>, sandboxes: Sandboxes, scope: OwnerScope) {
    let releasing = peer_pods.clone();
    tokio::spawn(async move { releasing.keep_releasing().await });
    tokio::spawn(async move {
        peer_pods
            .keep_reaping(node.provider.as_ref(), &sandboxes, &scope)
            .await;
    });
}

/// Binds the socket, in place of one that an earlier process left.
fn listen(socket: &Path, service: Service, credentials: CredentialsService) -> Result<Server, Fatal> {
    let failed = Fatal::of::<io::Error>("make the socket's folder");
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Fatal::of("remove the old socket")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let address = format!("unix://{}", socket.display());
    let failed = Fatal::of::<ttrpc::Error>("listen on the socket");
    let mut server = Server::new().bind(&address).map_err(failed)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(Fatal::of("keep others from the socket"))?;
    server = server
        .register_service(create_hypervisor(Arc::new(service)))
        .register_service(create_registry_credentials(Arc::new(credentials)));
    Ok(server)
}

/// Takes no more connections, and lets the calls that are under way come to their end where that is near. The listener goes
/// first: it counts as a connection, which would never end.
async fn end(mut server: Server) {
    if let Err(error) = server.shutdown().await {
        tracing::debug!(error = chain(&error), "not every shim was told");
    }
}

async fn wait_for_the_end() -> Result<(), Fatal> {
    let on = |kind| signal(kind).map_err(Fatal::of("wait for signals"));
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; VMs go on");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

    use super::*;

    /// Far below the 10 s for which the server waits for connections that do not end.
    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test]
    async fn idle_shims_do_not_hold_up_the_end() {
        let folder = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("hypervisor.sock");
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .unwrap();
        server.start().await.unwrap();
        let mut shim = UnixStream::connect(&socket).await.unwrap();
        timeout(LIMIT, end(server)).await.expect("it ends at once");
        assert!(matches!(shim.read(&mut [0]).await, Ok(0) | Err(_)));
        assert!(UnixStream::connect(&socket).await.is_err());
    }
}
