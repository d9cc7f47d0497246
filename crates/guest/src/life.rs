//! The program's life: as PID 1 of the VM, or as the helper that creates a container.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use peerpods_log::OfPod;
use peerpods_proto::payload::{BootPayload, InstanceMetadata, UserData};
use peerpods_tunnel::channel::{AGENT_PORT, AgentListener, ListenerConfig, StockIdentity};
use rustix::{
    system::{RebootCommand, reboot},
    time::{ClockId, clock_gettime},
};
use tracing_subscriber::fmt::format;
use ttrpc::asynchronous::Server;

use crate::{
    agent::{Sandbox, forward, serve},
    boot::{self, POD_NAMESPACE, Platform, RESUMED_ARGUMENT},
    clock,
    container::{HELPER_ARGUMENT, POD_INIT_ARGUMENT, Reaper, helper_main, pod_init_main},
    ec2,
    error::GuestError,
    image::{PullSettings, write_trusted_roots},
    lease::Lease,
    scratch::Scratch,
    warm,
};

/// How long a guest of a stock adaptor, which tells no lease, lives without a word.
const DEFAULT_LEASE: Duration = Duration::from_secs(3600);
/// The answer to the request that ends the VM is on its way by then.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// Runs the program.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let start = match arguments.next().as_deref() {
        Some(HELPER_ARGUMENT) => return helper_main(&arguments.next().unwrap_or_default()),
        Some(POD_INIT_ARGUMENT) => return pod_init_main(),
        Some(RESUMED_ARGUMENT) => Start::Resumed,
        Some(_) | None => Start::Booted,
    };
    if std::process::id() != 1 {
        eprintln!("peerpods-guest is the first process of a peer pod VM; it does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    // The console is all that a person sees of a VM that fails.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(OfPod(format().without_time()))
        .init();
    match init(start) {
        Ok(why) => tracing::info!("powering off: {why}"),
        Err(error) => tracing::error!("powering off: {}", error.chain()),
    }
    // Nothing is written back: no disk of the VM outlives it.
    // It does not return; where the machine cannot power off, the kernel's panic ends it.
    let _ = reboot(RebootCommand::PowerOff);
    ExitCode::FAILURE
}

/// What was before this program started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// The kernel handed over.
    Booted,
    /// The VM is a copy of a saved one, in which everything was prepared.
    Resumed,
}

impl Start {
    fn name(self) -> &'static str {
        match self {
            Self::Booted => "the kernel handed over",
            Self::Resumed => "the VM was resumed",
        }
    }
}

fn init(start: Start) -> Result<&'static str, GuestError> {
    let since = Instant::now();
    let kernel = since_kernel_start();
    let platform = match start {
        Start::Booted => {
            let platform = boot::prepare()?;
            if platform.has_kernel() {
                // Benchmarks read this line on the console.
                tracing::info!("the kernel handed over {} ms after its start", kernel.as_millis());
            }
            boot::hold(platform)?;
            platform
        }
        Start::Resumed => Platform::find()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(GuestError::system("start"))?
        .block_on(run(platform, start, since))
}

/// How long the kernel runs.
fn since_kernel_start() -> Duration {
    let uptime = clock_gettime(ClockId::Boottime);
    Duration::try_from(uptime).expect("time since the boot is not negative, as clock_gettime(2) defines it")
}

/// Serves the pod, once there is one, until its worker ends it or is not heard any more.
async fn run(platform: Platform, start: Start, since: Instant) -> Result<&'static str, GuestError> {
    let reaper = Reaper::start()?;
    write_trusted_roots()?;
    let user_data = boot::read_user_data(platform).await?;
    tokio::spawn(clock::keep(platform));
    let (scratch, scratch_preparation) = Scratch::of(platform);
    let body = Body {
        platform,
        reaper,
        scratch,
    };
    let warm = match user_data {
        UserData::Pod(payload) => {
            let encryption = payload
                .settings
                .as_ref()
                .map(|settings| settings.scratch_encryption);
            let pod = Pod::serve(body, *payload).await?;
            // Benchmarks read this line on the console.
            tracing::info!(
                "the agent answers {} ms after {}",
                since.elapsed().as_millis(),
                start.name()
            );
            scratch_preparation.start(encryption.unwrap_or_default());
            return Ok(pod.end().await);
        }
        UserData::Warm(payload) => {
            scratch_preparation.start(payload.scratch_encryption);
            payload
        }
    };
    let Some(claim) = warm::claimed(warm).await? else {
        return Ok("no pod came, and the worker was not heard for the length of the lease");
    };
    let received = Instant::now();
    let pod = match BootPayload::parse(claim.payload()) {
        Ok(payload) => Pod::serve(body, payload).await,
        Err(error) => Err(error.into()),
    };
    match pod {
        Ok(pod) => {
            claim.answer(Ok(())).await;
            tracing::info!(
                "the agent answers {} ms after the claim",
                received.elapsed().as_millis()
            );
            Ok(pod.end().await)
        }
        // What it has of the pod already cannot be given to another: it is of no use any more.
        Err(error) => {
            claim.answer(Err(&error.chain())).await;
            Err(error)
        }
    }
}

/// What a VM has for whatever pod it gets.
struct Body {
    platform: Platform,
    reaper: Reaper,
    scratch: Scratch,
}

/// The pod that this VM is for, with its agent listening.
struct Pod {
    sandbox: Arc<Sandbox>,
    lease: Lease,
    /// Serves as long as it is there.
    _agent: Server,
}

impl Pod {
    async fn serve(body: Body, payload: BootPayload) -> Result<Self, GuestError> {
        peerpods_log::is_about(&payload.forwarder.pod_namespace, &payload.forwarder.pod_name);
        boot::join_pod(body.platform, &payload.forwarder.pod_network).await?;
        let metadata = payload
            .settings
            .as_ref()
            .map(|settings| settings.instance_metadata);
        if (body.platform, metadata) == (Platform::Ec2, Some(InstanceMetadata::Allow)) {
            ec2::open_metadata(Path::new(POD_NAMESPACE)).await?;
        }
        let (lease, insecure_registries) = match &payload.settings {
            Some(settings) => (settings.lease, settings.insecure_registries.clone()),
            None => (DEFAULT_LEASE, Vec::new()),
        };
        let lease = Lease::new(lease);
        let pull = PullSettings {
            insecure_registries,
            ..PullSettings::default()
        };
        let limits = body.platform.limits();
        let sandbox = Arc::new(Sandbox::new(pull, body.scratch, body.reaper, limits)?);
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, AGENT_PORT));
        let (listener, forwards) = AgentListener::bind(address, trust(payload)?).await?;
        tokio::spawn(forward(forwards, lease.clone()));
        let agent = serve(listener, sandbox.clone(), lease.clone()).await?;
        Ok(Self {
            sandbox,
            lease,
            _agent: agent,
        })
    }

    /// Waits for its end, and tells why it came.
    async fn end(self) -> &'static str {
        tokio::select! {
            () = self.sandbox.destroyed() => {
                tokio::time::sleep(LAST_ANSWER).await;
                "the pod was deleted"
            }
            () = self.lease.lapsed() => "the worker was not heard for the length of the lease",
        }
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
