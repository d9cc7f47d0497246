//! The pool with a journal on disk, a provider that misbehaves, and guests that
//! listen: what waits, what is taken, what is left.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use peerpods_proto::payload::{ScratchEncryption, UserData};
use peerpods_provider::{
    Assignment, InstanceId, Provider, Shape,
    fake::{Call, FakeProvider, Fault},
};
use peerpods_tunnel::channel::{ListenerConfig, WarmEvent, WarmListener, claim};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinSet, time::timeout};

use super::{Pool, PoolSettings, WarmVm, keep};
use crate::{journal::Journal, sandbox::Limits};

mod crowd;

/// Long enough for a machine that is busy, short enough for a person who waits.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// One run of the adaptor's pool, on the journal in a folder; dropping it is the adaptor's sudden death. Guests live on,
/// as VMs do.
struct Run {
    runtime: Runtime,
    pool: Pool,
    journal: Journal,
}

fn settings(size: usize, agent_port: u16) -> PoolSettings {
    PoolSettings {
        size,
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        lease: Duration::from_secs(2),
        scratch_encryption: ScratchEncryption::None,
        agent_port,
        limits: Limits {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            ..Limits::default()
        },
    }
}

fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

fn new_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

impl Run {
    fn new(folder: &Path, cloud: &Cloud, size: usize) -> Self {
        Self::with(folder, cloud, size, ScratchEncryption::None)
    }

    fn with(folder: &Path, cloud: &Cloud, size: usize, scratch_encryption: ScratchEncryption) -> Self {
        let runtime = new_runtime();
        let journal = Journal::open(folder).unwrap();
        let settings = PoolSettings {
            scratch_encryption,
            ..settings(size, cloud.port)
        };
        let pool = Pool::new(Arc::new(cloud.provider.clone()), journal.clone(), settings);
        let left = journal.read().unwrap().warm;
        runtime.spawn(keep(pool.clone(), left));
        Self {
            runtime,
            pool,
            journal,
        }
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { timeout(LIMIT, work).await };
        self.runtime.block_on(limited).expect("it ends in time")
    }

    /// Waits until something holds.
    fn until(&self, condition: impl Fn() -> bool) {
        self.block(async {
            while !condition() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
    }

    fn until_full(&self, size: usize) {
        self.until(|| self.waiting().len() == size && self.pool.count() == size);
    }

    fn take(&self) -> WarmVm {
        self.pool.take(&Shape::default()).expect("a VM waits")
    }

    /// What becomes of the record of a VM that a sandbox has.
    fn forget(&self, warm: &WarmVm) {
        let members = self.journal.read().unwrap().warm;
        let mut taken = members
            .iter()
            .filter(|member| member.instance() == Some(&warm.instance));
        self.block(self.journal.remove_warm(taken.next().unwrap()))
            .unwrap();
    }

    /// The members that wait, by the journal.
    fn waiting(&self) -> BTreeSet<InstanceId> {
        let members = self.journal.read().unwrap().warm;
        let waiting = members.iter().filter_map(|member| member.warm_vm());
        waiting.map(|warm| warm.instance.id).collect()
    }
}

/// Which guest was given what, in order.
type Claims = Arc<Mutex<Vec<(IpAddr, Vec<u8>)>>>;

/// A provider whose instances are guests that listen on loopback addresses.
struct Cloud {
    provider: FakeProvider,
    port: u16,
    claims: Claims,
    /// The guests end with it.
    _power: oneshot::Sender<()>,
}

impl Cloud {
    fn new() -> Self {
        let provider = FakeProvider::new();
        provider.answer_on_loopback();
        let port = free_port();
        let claims = Claims::default();
        let (power, off) = oneshot::channel();
        let booting = boot_all(provider.clone(), port, Arc::clone(&claims));
        std::thread::spawn(|| {
            new_runtime().block_on(async {
                tokio::select! {
                    () = booting => {}
                    _ = off => {}
                }
            });
        });
        Self {
            provider,
            port,
            claims,
            _power: power,
        }
    }

    fn living(&self) -> BTreeSet<InstanceId> {
        let instances = self.provider.instances().into_iter();
        instances.map(|owned| owned.instance.id).collect()
    }
}

/// Boots a guest for every instance that appears.
async fn boot_all(provider: FakeProvider, port: u16, claims: Claims) {
    let (mut booted, mut guests) = (BTreeSet::new(), JoinSet::new());
    loop {
        for owned in provider.instances() {
            let instance = owned.instance;
            if booted.insert(instance.id.clone()) {
                let payload = provider.request(&instance.id).unwrap().payload;
                let address = instance.addresses[0];
                guests.spawn(guest(
                    SocketAddr::new(address, port),
                    payload.to_vec(),
                    Arc::clone(&claims),
                ));
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn guest(address: SocketAddr, payload: Vec<u8>, claims: Claims) {
    // A pod's own guest is not met here.
    let Ok(UserData::Warm(warm)) = UserData::parse(&payload) else {
        return;
    };
    let config = ListenerConfig {
        client_ca_pem: warm.client_ca,
        join_secret: Some(warm.join_secret),
        stock: None,
    };
    let mut listener = WarmListener::bind(address, config).await.unwrap();
    while let Ok(event) = listener.next().await {
        if let WarmEvent::Claimed(claim) = event {
            let payload = claim.payload().to_vec();
            claims.lock().unwrap().push((address.ip(), payload));
            claim.answer(Ok(())).await;
            return;
        }
    }
}

#[test]
fn the_pool_fills_and_its_vms_have_no_pod() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 3);
    run.until_full(3);
    assert_eq!(cloud.provider.launched(), 3);
    for owned in cloud.provider.instances() {
        assert_eq!(owned.owner.assignment, Assignment::Warm);
    }
}

#[test]
fn a_vm_is_taken_once_claimed_once_and_replaced() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 2);
    run.until_full(2);
    let (first, second) = (run.take(), run.take());
    assert_ne!(first.instance.id, second.instance.id);
    assert!(
        run.pool.take(&Shape::default()).is_none(),
        "two wait, and no third"
    );
    for (warm, payload) in [(&first, b"pod 1"), (&second, b"pod 2")] {
        run.block(claim(&warm.connection(cloud.port), payload)).unwrap();
        run.forget(warm);
    }
    let claimed = cloud.claims.lock().unwrap().clone();
    assert_eq!(
        claimed,
        [
            (first.instance.addresses[0], b"pod 1".to_vec()),
            (second.instance.addresses[0], b"pod 2".to_vec()),
        ]
    );
    run.block(claim(&first.connection(cloud.port), b"pod 3"))
        .unwrap_err();

    run.until_full(2);
    assert_eq!((cloud.provider.launched(), cloud.living().len()), (4, 4));
    let third = run.take().instance.id;
    assert!(
        ![first.instance.id, second.instance.id].contains(&third),
        "a claimed VM is never used again"
    );
}

#[test]
fn a_pod_of_another_kind_takes_none() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    let large = Shape {
        memory_mib: Some(4096),
        ..Shape::default()
    };
    assert!(run.pool.take(&large).is_none());
    run.take();
}

#[test]
fn killed_and_started_again_it_keeps_what_waits() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 2);
    run.until_full(2);
    let before = run.waiting();
    // Taken, and the adaptor is killed before that was recorded.
    run.take();
    drop(run);

    let run = Run::new(folder.path(), &cloud, 2);
    run.until_full(2);
    assert_eq!(run.waiting(), before);
    assert_eq!(cloud.provider.launched(), 2);
}

#[test]
fn what_waits_with_a_readable_disk_is_not_used_once_disks_are_to_be_encrypted() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    let readable = run.waiting();
    drop(run);

    let run = Run::with(folder.path(), &cloud, 1, ScratchEncryption::Ephemeral);
    run.until_full(1);
    assert!(run.waiting().is_disjoint(&readable), "it waits still");
    assert_eq!(cloud.living().len(), 1);
}

#[test]
fn with_another_size_it_keeps_as_many_as_are_wanted() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 3);
    run.until_full(3);
    drop(run);
    let run = Run::new(folder.path(), &cloud, 1);
    run.until(|| cloud.living().len() == 1 && run.waiting().len() == 1);
    drop(run);
    let run = Run::new(folder.path(), &cloud, 0);
    run.until(|| cloud.living().is_empty() && run.waiting().is_empty());
    assert_eq!(cloud.provider.launched(), 3);
}

#[test]
fn what_an_interrupted_launch_left_is_ended() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    cloud.provider.fail_next(Call::Launch, Fault::Slow(LIMIT));
    let run = Run::new(folder.path(), &cloud, 1);
    run.until(|| run.journal.read().unwrap().warm.len() == 1);
    drop(run);
    // The launch took effect, and nobody heard of it.
    let member = Journal::open(folder.path())
        .unwrap()
        .read()
        .unwrap()
        .warm
        .remove(0);
    let mut request = peerpods_provider::conformance::warm_request("interrupted");
    request.token = member.token.clone();
    let runtime = new_runtime();
    let cut_off = runtime.block_on(cloud.provider.launch(&request)).unwrap().id;

    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    assert!(!cloud.living().contains(&cut_off) && cloud.living().len() == 1);
    assert!(!run.waiting().contains(&cut_off));
}

#[test]
fn launches_that_fail_leave_nothing_and_are_tried_again() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    for fault in [Fault::LoseReply, Fault::LoseRequest, Fault::Capacity, Fault::Deny] {
        cloud.provider.fail_next(Call::Launch, fault);
    }
    cloud.provider.fail_next(Call::Terminate, Fault::StillAlive);
    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    assert_eq!(cloud.living().len(), 1);
    assert_eq!(cloud.provider.launched(), 2);
}

#[test]
fn a_vm_that_dies_while_it_waits_is_replaced() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    let dead = run.waiting();
    cloud.provider.kill(cloud.living().first().unwrap());
    run.until(|| run.waiting().is_disjoint(&dead) && run.waiting().len() == 1);
    assert_eq!(cloud.living().len(), 1);
}

#[test]
fn a_vm_that_the_provider_takes_back_while_it_waits_is_ended_and_replaced() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 1);
    run.until_full(1);
    let taken = run.waiting();
    let id = taken.first().unwrap();
    cloud.provider.interrupt(id, "The cloud needs it back");
    run.until(|| run.waiting().is_disjoint(&taken) && run.waiting().len() == 1);
    assert_eq!(cloud.living(), run.waiting());
}

#[test]
fn with_another_image_all_are_replaced() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let run = Run::new(folder.path(), &cloud, 2);
    run.until_full(2);
    let old = run.waiting();
    cloud.provider.replace_image();
    assert!(
        run.pool.take(&Shape::default()).is_none(),
        "what waits is outdated"
    );
    run.pool.changed.notify_one();
    run.until(|| run.waiting().is_disjoint(&old) && run.waiting().len() == 2);
    assert_eq!(cloud.living().len(), 2);
}
