//! The program's life: as PID 1 of the VM, or as the helper that creates a container.

use std::{
    net::{Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use peerpods_proto::payload::BootPayload;
use peerpods_tunnel::channel::{AGENT_PORT, AgentListener, ListenerConfig, StockIdentity};
use rustix::system::{RebootCommand, reboot};

use crate::{
    agent::{Sandbox, forward, serve},
    boot::{self, Platform},
    container::{HELPER_ARGUMENT, POD_INIT_ARGUMENT, Reaper, helper_main, pod_init_main},
    error::GuestError,
    image::{PullSettings, write_trusted_roots},
    lease::Lease,
    scratch::Scratch,
};

/// How long a guest of a stock adaptor, which tells no lease, lives without a word.
const DEFAULT_LEASE: Duration = Duration::from_secs(3600);
/// The answer to the request that ends the VM is on its way by then.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(HELPER_ARGUMENT) => return helper_main(&arguments.next().unwrap_or_default()),
        Some(POD_INIT_ARGUMENT) => return pod_init_main(),
        Some(_) | None => {}
    }
    if std::process::id() != 1 {
        eprintln!("peerpods-guest is the first process of a peer pod VM; it does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    // The console is all that a person sees of a VM that fails.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    match init() {
        Ok(why) => tracing::info!("powering off: {why}"),
        Err(error) => tracing::error!("powering off: {}", error.chain()),
    }
    // Nothing is written back: no disk of the VM outlives it.
    // It does not return; where the machine cannot power off, the kernel's panic ends it.
    let _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}

fn init() -> Result<&'static str, GuestError> {
    let handed_over = Instant::now();
    let platform = boot::prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(GuestError::system("start"))?
        .block_on(run(platform, handed_over))
}

/// Serves the pod until its worker ends it or is not heard any more.
async fn run(platform: Platform, handed_over: Instant) -> Result<&'static str, GuestError> {
    let reaper = Reaper::start()?;
    let payload = boot::join_pod(platform).await?;
    let scratch = Scratch::prepare(platform);
    let lease = Lease::new(
        payload
            .settings
            .as_ref()
            .map_or(DEFAULT_LEASE, |settings| settings.lease),
    );
    let registries = payload
        .settings
        .as_ref()
        .map(|settings| settings.insecure_registries.clone());
    let pull = PullSettings {
        insecure_registries: registries.unwrap_or_default(),
        ..PullSettings::default()
    };
    write_trusted_roots()?;
    let sandbox = Arc::new(Sandbox::new(pull, scratch, reaper, platform.limits())?);
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, AGENT_PORT));
    let (listener, forwards) = AgentListener::bind(address, trust(payload)?).await?;
    tokio::spawn(forward(forwards, lease.clone()));
    let _server = serve(listener, sandbox.clone(), lease.clone()).await?;
    // Benchmarks read this line on the console.
    tracing::info!(
        "the agent answers {} ms after the kernel handed over",
        handed_over.elapsed().as_millis()
    );
    tokio::select! {
        () = sandbox.destroyed() => {
            tokio::time::sleep(LAST_ANSWER).await;
            Ok("the pod was deleted")
        }
        () = lease.lapsed() => Ok("the worker was not heard for the length of the lease"),
    }
}

/// Whom the agent serves, as the payload says.
fn trust(payload: BootPayload) -> Result<ListenerConfig, GuestError> {
    let missing = || GuestError::Invalid {
        field: "tls-client-ca",
        problem: "it is missing".to_owned(),
    };
    let forwarder = payload.forwarder;
    let stock = match (forwarder.tls_server_cert, forwarder.tls_server_key) {
        (Some(certificate_pem), Some(key)) => Some(StockIdentity {
            certificate_pem,
            key_pem: key.expose().to_owned().into(),
        }),
        _ => None,
    };
    Ok(ListenerConfig {
        client_ca_pem: forwarder.tls_client_ca.ok_or_else(missing)?,
        join_secret: payload.settings.map(|settings| settings.join_secret),
        stock,
    })
}
