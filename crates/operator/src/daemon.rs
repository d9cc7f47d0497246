//! The process's life: arguments, election, work, end.

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use peerpods_error::chain;
use peerpods_probes::{Answer, Question};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use crate::{
    Operator, Providers,
    command_line::{Command, CommandLine, NodeArguments, RunArguments},
    health::{self, Health},
    installation::{Installation, Patience},
    leader::Election,
    metrics::Metrics,
    node_runtime::{self, NodeRuntimeError, Work},
    permissions,
};

/// How often a node is looked at: it takes a few reads of small files.
const KEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What ends the process: an administrator has to do something about it, or the kubelet starts it again.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("cannot find the API server")]
    Config(#[source] kube::Error),
    #[error("cannot read namespace kube-system, whose UID is the cluster's id")]
    ClusterId(#[source] kube::Error),
    #[error("namespace kube-system has no UID")]
    NoClusterId,
    #[error("cannot answer probes")]
    Health(#[source] io::Error),
    #[error("another process may lead now")]
    LostLease,
    #[error(transparent)]
    NodeRuntime(#[from] NodeRuntimeError),
}

/// Runs the program until SIGTERM or SIGINT; nothing that it installed ends with it.
pub fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    peerpods_log::to_standard_error(Level::INFO);
    match run(command_line.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line is what the kubelet keeps as the reason.
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Run(arguments) => block_on(act(*arguments)),
        Command::InstallNode(arguments) => block_on(work_on_node(arguments, Work::Install)),
        Command::CleanNode(arguments) => block_on(work_on_node(arguments, Work::Remove)),
        Command::RunIn { root, command } => Ok(node_runtime::run_in(&root, &command)?),
        Command::Permissions { namespace } => {
            println!("{:#}", permissions::manifests(&namespace));
            Ok(())
        }
    }
}

/// One thread: nothing here computes, and memory is what counts.
fn block_on(work: impl Future<Output = Result<(), Fatal>>) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Fatal::Start)?.block_on(work)
}

async fn act(arguments: RunArguments) -> Result<(), Fatal> {
    // One of two providers of cryptography would be chosen by whoever asks first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default().await.map_err(Fatal::Config)?;
    let (health, metrics) = (Health::default(), Arc::new(Metrics::default()));
    let probes = health::serve(arguments.health_address, health.clone(), metrics.clone());
    let mut election = Election::new(client.clone(), &arguments.namespace, arguments.pod_name.clone());
    let lead = async {
        tracing::info!("standing by");
        election.acquire().await;
        tracing::info!("acting");
        metrics.leads(true);
        let operator = operator(client, &arguments).await?;
        tokio::select! {
            () = operator.run(&health, &metrics) => Ok(()),
            () = election.hold() => Err(Fatal::LostLease),
        }
    };
    tokio::select! {
        outcome = lead => return outcome,
        outcome = probes => return outcome.map_err(Fatal::Health),
        outcome = told_to_end() => outcome?,
    }
    election.release().await;
    tracing::info!("ending; what is installed goes on");
    Ok(())
}

async fn operator(client: Client, arguments: &RunArguments) -> Result<Operator, Fatal> {
    let cluster_id = match &arguments.cluster_id {
        Some(id) => id.clone(),
        None => {
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let namespace = namespaces.get("kube-system").await.map_err(Fatal::ClusterId)?;
            namespace.metadata.uid.ok_or(Fatal::NoClusterId)?
        }
    };
    Ok(Operator {
        client,
        installation: Installation {
            namespace: arguments.namespace.clone(),
            cluster_id,
            images: arguments.images(),
            node_runtime: arguments.node_runtime.into(),
            issuer: arguments.issuer.clone(),
            patience: Patience::default(),
        },
        // Others than AWS run VMs where this program cannot reach them.
        providers: Providers::new(),
        identity: arguments.pod_name.clone(),
    })
}

async fn work_on_node(arguments: NodeArguments, work: Work) -> Result<(), Fatal> {
    let extent = arguments.extent();
    let node = node_runtime::NodeRoot::new(arguments.root);
    let perform = move || node_runtime::perform(&node, &arguments.shim, arguments.restart, work, extent);
    let perform = Arc::new(perform);
    once(perform.clone()).await?;
    let listener = tokio::net::TcpListener::bind(arguments.ready_address)
        .await
        .map_err(Fatal::Health)?;
    tokio::select! {
        // It listens only once it is done.
        () = peerpods_probes::serve(listener, done) => Ok(()),
        outcome = keep(perform) => outcome,
        outcome = told_to_end() => outcome,
    }
}

/// There are no figures of a node's installation: the operator counts nodes.
fn done(question: Question) -> Answer {
    match question {
        Question::Healthy | Question::Ready => Answer::Yes,
        Question::Metrics => Answer::Metrics(peerpods_probes::figures(&Registry::default())),
    }
}

/// What others undo is done again: some systems write the container runtime's configuration anew. Returns when that fails.
async fn keep(
    perform: Arc<impl Fn() -> Result<(), NodeRuntimeError> + Send + Sync + 'static>,
) -> Result<(), Fatal> {
    loop {
        tokio::time::sleep(KEEP_INTERVAL).await;
        once(perform.clone()).await?;
    }
}

/// Probes are answered meanwhile.
async fn once(
    perform: Arc<impl Fn() -> Result<(), NodeRuntimeError> + Send + Sync + 'static>,
) -> Result<(), Fatal> {
    let done = tokio::task::spawn_blocking(move || perform()).await;
    done.map_err(|error| Fatal::Start(error.into()))??;
    Ok(())
}

async fn told_to_end() -> Result<(), Fatal> {
    let on = |kind| signal(kind).map_err(Fatal::Start);
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
