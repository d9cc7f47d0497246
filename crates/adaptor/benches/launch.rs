//! What the adaptor adds to a launch on EC2: from CreateVM's call to its answer, and from StartVM's call to the moment at which
//! EC2, on loopback, has the request to launch. The daemon is the program as nodes run it, in namespaces of its own.
//!
//! Prints one line of JSON. `cargo xtask bench --only launch` runs it on release builds; an argument is the number of pods.

#[path = "../tests/daemon/mod.rs"]
mod daemon;

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use peerpods_proto::{
    hypervisor::{CreateVMRequest, StartVMRequest, StopVMRequest},
    hypervisor_ttrpc::HypervisorClient,
};
use peerpods_testkit::{
    ec2::Emulator,
    namespaces::{in_namespaces, until},
    wait_for,
};
use peerpods_tunnel::network::create_namespace;
use tokio::time::sleep;
use ttrpc::{asynchronous::Client, context};

use self::daemon::{account, daemon};

const PODS: usize = 100;
/// So that each pod comes alone: what comes together is launched together, and waits for that.
const INTERVAL: Duration = Duration::from_millis(1_050);
const START_LIMIT: Duration = Duration::from_secs(60);
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// When requests to launch arrived.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

/// The daemon, gone with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn start(folder: &Path, emulator: &Emulator) -> Self {
        let child = daemon(folder)
            .envs(account(emulator))
            .env("RUST_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .expect("the adaptor starts");
        let daemon = Self(child);
        wait_for("the adaptor serves its socket", START_LIMIT, || {
            match folder.join("hypervisor.sock").exists() {
                true => Ok(()),
                false => Err("it does not".to_owned()),
            }
        });
        daemon
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("ip starts").success(), "ip {arguments}");
}

/// A pod's namespace, as a CNI plugin makes it.
fn pod_namespace(path: &Path, number: usize) {
    create_namespace(path).expect("a namespace can be made");
    let netns = path.display();
    ip(&format!(
        "link add veth{number} type veth peer name eth0 netns {netns}"
    ));
    ip(&format!("link set veth{number} up"));
    let inside = |arguments: &str| {
        let enter = format!("--net={netns}");
        let status = Command::new("nsenter")
            .arg(enter)
            .arg("ip")
            .args(arguments.split(' '))
            .status();
        assert!(
            status.expect("nsenter starts").success(),
            "ip {arguments} in {netns}"
        );
    };
    let (third, fourth) = (number / 250, number % 250 + 2);
    inside(&format!("addr add 10.244.{third}.{fourth}/16 dev eth0"));
    inside("link set eth0 up");
    inside("route add default via 10.244.255.1");
}

async fn client(folder: &Path) -> HypervisorClient {
    let address = format!("unix://{}", folder.join("hypervisor.sock").display());
    HypervisorClient::new(Client::connect(&address).await.expect("the adaptor listens"))
}

/// One pod's life, as far as its launch; gives the adaptor's own time.
async fn launch(folder: &Path, number: usize, arrivals: &Arrivals) -> Duration {
    let netns = folder.join(format!("netns-{number}"));
    pod_namespace(&netns, number);
    let (client, limit) = (client(folder).await, || context::with_duration(CALL_LIMIT));
    let id = format!("pod-{number}");
    let annotation = |key: &str, value: &str| (format!("io.kubernetes.cri.{key}"), value.to_owned());
    let request = CreateVMRequest {
        id: id.clone(),
        annotations: HashMap::from([
            annotation("sandbox-name", &id),
            annotation("sandbox-namespace", "default"),
        ]),
        networkNamespacePath: netns.display().to_string(),
        ..Default::default()
    };
    let before = arrivals.lock().expect("nothing panics").len();
    let asked = Instant::now();
    client
        .create_vm(limit(), &request)
        .await
        .expect("a VM is created");
    let created = asked.elapsed();

    let start = StartVMRequest {
        id: id.clone(),
        ..Default::default()
    };
    let asked = Instant::now();
    let starting = {
        let client = client.clone();
        // No guest ever answers: it ends with the pod.
        tokio::spawn(async move { client.start_vm(context::with_duration(CALL_LIMIT), &start).await })
    };
    let arrived = || arrivals.lock().expect("nothing panics").get(before).copied();
    until("EC2 is asked for an instance", START_LIMIT, || {
        arrived().is_some()
    })
    .await;
    let launched = arrived().expect("it arrived") - asked;

    let stop = StopVMRequest {
        id,
        ..Default::default()
    };
    client.stop_vm(limit(), &stop).await.expect("a VM can be stopped");
    // Its failure is the pod's end.
    let _ = starting.await;
    created + launched
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted[place].as_secs_f64() * 1000.0
}

fn main() {
    let asked = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let pods: usize = asked.unwrap_or(PODS);
    in_namespaces(|| async move {
        ip("link set lo up");
        let Some(emulator) = Emulator::start() else { return };
        let arrivals = Arrivals::default();
        let heard = arrivals.clone();
        emulator.set_faults(move |request| {
            if request.action == "RunInstances" {
                heard.lock().expect("nothing panics").push(Instant::now());
            }
            None
        });
        let folder = tempfile::tempdir().expect("a folder can be made");
        let _daemon = Daemon::start(folder.path(), &emulator);
        let mut took = Vec::new();
        for number in 0..pods {
            let next = Instant::now() + INTERVAL;
            took.push(launch(folder.path(), number, &arrivals).await);
            sleep(next.saturating_duration_since(Instant::now())).await;
        }
        took.sort_unstable();
        println!(
            "{{\"medianMilliseconds\": {:.2}, \"p99Milliseconds\": {:.2}, \"pods\": {pods}}}",
            percentile(&took, 50),
            percentile(&took, 99)
        );
        for number in 0..pods {
            let netns = folder.path().join(format!("netns-{number}"));
            // The mount namespace goes with this thread in any case.
            let _ = rustix::mount::unmount(netns, rustix::mount::UnmountFlags::DETACH);
        }
    });
}
