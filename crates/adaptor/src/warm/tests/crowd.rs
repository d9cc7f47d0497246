//! Many pods at one moment: how few launches they take, and what faults and crashes leave of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
    fake::{Call, Fault},
};
use peerpods_provider_aws::{AwsArguments, AwsProvider, Timing};
use peerpods_testkit::ec2::{Emulator, REGION};
use peerpods_tunnel::channel::{ServerKeyPin, claim};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Claims, Cloud, guest, new_runtime, settings};
use crate::{
    journal::Journal,
    launch::launch_within,
    metrics::Metrics,
    sandbox::{Effects, Limits, Plan, Reason, Record, SandboxId, Sandboxes, State, example},
    warm::{Pool, Turn, WarmVm, keep},
};

/// A crowd of a hundred takes about ten seconds, on a machine that is busy more.
const LIMIT: Duration = Duration::from_secs(120);
const FEW: usize = 12;
const SEEDS: usize = 5;

/// A node whose pods have no network, and whose guests are this process's.
struct Crowd {
    provider: Arc<dyn Provider>,
    pool: Pool,
    port: u16,
}

#[async_trait]
impl Effects for Crowd {
    fn take_warm(&self, plan: &Plan) -> Option<WarmVm> {
        self.pool.take(&plan.shape)
    }

    fn is_crowded(&self) -> bool {
        self.pool.is_crowded()
    }

    async fn queue(&self, plan: &Plan) -> Result<Turn, Reason> {
        self.pool.queue(&plan.shape).await
    }

    async fn claim(&self, plan: &Plan, warm: &WarmVm) -> Result<(), String> {
        let bound = self
            .provider
            .claim(&warm.instance.id, &plan.pod, "podvm-of-crowd");
        bound.await.map_err(|error| error.to_string())?;
        let guest = warm.connection(self.port);
        let claimed = claim(&guest, plan.sandbox.as_str().as_bytes()).await;
        claimed.map_err(|error| error.to_string())
    }

    async fn discard(&self, _: &Plan, warm: &WarmVm) {
        while self.provider.terminate(&warm.instance.id).await.is_err() {}
    }

    async fn launch(&self, plan: &Plan, token: &LaunchToken) -> Result<Instance, Reason> {
        let request = LaunchRequest {
            token: token.clone(),
            owner: plan.owner(),
            shape: plan.shape.clone(),
            name: "podvm-of-one".to_owned(),
            tags: Default::default(),
            payload: b"a pod's own".to_vec().into(),
        };
        launch_within(&Limits::default(), || self.provider.launch(&request)).await
    }

    async fn join(&self, _: &Plan, _: &Instance) -> Result<ServerKeyPin, Reason> {
        Ok("ab".repeat(32).parse().unwrap())
    }

    async fn serve(
        &self,
        _: &Plan,
        _: &Instance,
        _: ServerKeyPin,
        reachable: Box<dyn FnOnce() + Send>,
    ) -> Reason {
        reachable();
        std::future::pending().await
    }

    async fn drain(&self, _: &Plan, token: &LaunchToken, instance: Option<&Instance>) {
        let found = loop {
            if let Ok(found) = self.provider.find_all(token).await {
                break found;
            }
        };
        for instance in found.iter().chain(instance) {
            while self.provider.terminate(&instance.id).await.is_err() {}
        }
    }
}

/// One run of the adaptor; dropping it is its sudden death.
struct Run {
    runtime: Runtime,
    journal: Journal,
    sandboxes: Sandboxes,
}

impl Run {
    fn new(folder: &Path, provider: Arc<dyn Provider>, port: u16) -> Self {
        let runtime = new_runtime();
        let entered = runtime.enter();
        let journal = Journal::open(folder).unwrap();
        let pool = Pool::new(provider.clone(), journal.clone(), settings(0, port));
        tokio::spawn(keep(pool.clone(), journal.read().unwrap().warm));
        tokio::spawn(pool.clone().keep_departing());
        let crowd = Arc::new(Crowd { provider, pool, port });
        let sandboxes = Sandboxes::new(journal.clone(), crowd, Arc::new(Metrics::default()));
        sandboxes.replay().unwrap();
        drop(entered);
        Self {
            runtime,
            journal,
            sandboxes,
        }
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { timeout(LIMIT, work).await };
        self.runtime.block_on(limited).expect("it ends in time")
    }

    fn create(&self, pods: &[SandboxId]) {
        for pod in pods {
            let place = self.sandboxes.place(pod).unwrap();
            let plan = example(pod.as_str(), place.vni);
            let token = plan.launch_token(1);
            let state = State::Reserved { token };
            self.block(self.sandboxes.create(place, Record { plan, state }))
                .unwrap();
        }
    }

    /// Has all of them started at once; gives how many have a VM then.
    async fn start(sandboxes: Sandboxes, pods: Vec<SandboxId>) -> usize {
        let mut starts = JoinSet::new();
        for pod in pods {
            let sandboxes = sandboxes.clone();
            starts.spawn(async move { sandboxes.start(&pod).await.is_ok() });
        }
        starts.join_all().await.into_iter().filter(|is_ok| *is_ok).count()
    }

    /// The instances that the pods have.
    fn serving(&self) -> Vec<InstanceId> {
        let states = self.sandboxes.states().into_iter();
        let ready = states.filter_map(|state| match state {
            State::Ready { instance, .. } => Some(instance.id),
            _ => None,
        });
        ready.collect()
    }
}

fn pods(count: usize) -> Vec<SandboxId> {
    let ids = (0..count).map(|number| SandboxId::try_from(format!("pod-{number}")));
    ids.collect::<Result<_, _>>().unwrap()
}

#[test]
fn pods_that_start_together_are_launched_together() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    cloud.provider.launch_in_batches(50);
    let run = Run::new(folder.path(), Arc::new(cloud.provider.clone()), cloud.port);
    let pods = pods(FEW);
    run.create(&pods);
    let asked = Instant::now();
    let started = run.block(Run::start(run.sandboxes.clone(), pods.clone()));
    assert_eq!(started, FEW);
    // Three alone, and the others with one call; on a machine that takes seconds for it, with one more for each.
    let launches = cloud.provider.calls();
    let launches = launches.iter().filter(|call| **call == Call::Launch).count();
    let seconds = usize::try_from(asked.elapsed().as_secs()).unwrap();
    assert!((4..=4 + seconds).contains(&launches), "{launches} in {seconds} s");
    assert_eq!(cloud.provider.launched(), FEW);
    let serving = run.serving();
    assert_eq!(serving.iter().collect::<BTreeSet<_>>().len(), FEW);
    let claimed = cloud.claims.lock().unwrap().len();
    let alone = FEW - claimed;
    assert!((3..=3 + seconds).contains(&alone), "{alone} alone in {seconds} s");
    assert_eq!(run.journal.read().unwrap().warm.len(), 0);
}

#[test]
fn who_does_not_fit_into_one_launch_leaves_with_the_next() {
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    cloud.provider.launch_in_batches(4);
    let run = Run::new(folder.path(), Arc::new(cloud.provider.clone()), cloud.port);
    let pods = pods(FEW);
    run.create(&pods);
    assert_eq!(run.block(Run::start(run.sandboxes.clone(), pods.clone())), FEW);
    assert_eq!(cloud.provider.launched(), FEW);
}

/// By a seed that is printed: launches, claims and ends go wrong, and the adaptor is killed at any moment.
#[test]
fn whatever_goes_wrong_no_pod_has_two_vms_and_none_is_left() {
    for _ in 0..SEEDS {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
        cloud.provider.launch_in_batches(5);
        let pods = pods(FEW);
        for _ in 0..random.usize(..12) {
            let faults = [Fault::LoseReply, Fault::LoseRequest, Fault::Throttle, Fault::Deny];
            let calls = [
                Call::Launch,
                Call::Launch,
                Call::Claim,
                Call::Terminate,
                Call::Find,
            ];
            let (call, fault) = (calls[random.usize(..5)], faults[random.usize(..4)]);
            cloud.provider.fail_next(call, fault);
        }
        let run = Run::new(folder.path(), Arc::new(cloud.provider.clone()), cloud.port);
        run.create(&pods);
        let starting = Run::start(run.sandboxes.clone(), pods.clone());
        run.runtime.spawn(starting);
        let life = Duration::from_millis(random.u64(..2_500));
        run.block(async { sleep(life).await });
        drop(run);

        let run = Run::new(folder.path(), Arc::new(cloud.provider.clone()), cloud.port);
        run.block(Run::start(run.sandboxes.clone(), pods.clone()));
        let serving = run.serving();
        let distinct: BTreeSet<_> = serving.iter().cloned().collect();
        assert_eq!(distinct.len(), serving.len(), "two pods share a VM");
        assert!(distinct.is_subset(&cloud.living()));
        run.block(async {
            for pod in &pods {
                run.sandboxes.stop(pod, Reason::Requested).await;
                run.sandboxes.gone(pod).await;
            }
            // What no pod came for is ended by the pool itself.
            while !cloud.living().is_empty() || !run.journal.read().unwrap().warm.is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

/// EC2, whose instances answer at loopback addresses: 172.31.X.Y at 127.31.X.Y.
struct Reached {
    aws: AwsProvider,
    port: u16,
    claims: Claims,
    booted: Mutex<BTreeSet<InstanceId>>,
}

impl Reached {
    fn boot(&self, request: &LaunchRequest, instances: Vec<Instance>) -> Vec<Instance> {
        let reached = instances.into_iter().map(|instance| {
            let Some(IpAddr::V4(private)) = instance.addresses.first() else {
                panic!("{instance:?} has no address");
            };
            let [_, b, c, d] = private.octets();
            let address = IpAddr::from(Ipv4Addr::new(127, b, c, d));
            let is_new = self.booted.lock().unwrap().insert(instance.id.clone());
            if is_new && matches!(request.owner.assignment, peerpods_provider::Assignment::Warm) {
                let (at, payload) = (SocketAddr::new(address, self.port), request.payload.to_vec());
                tokio::spawn(guest(at, payload, self.claims.clone()));
            }
            Instance {
                addresses: vec![address],
                ..instance
            }
        });
        reached.collect()
    }
}

#[async_trait]
impl Provider for Reached {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        let instance = self.aws.launch(request).await?;
        Ok(self.boot(request, vec![instance]).remove(0))
    }

    fn batch_limit(&self) -> usize {
        self.aws.batch_limit()
    }

    async fn launch_together(
        &self,
        request: &LaunchRequest,
        count: usize,
    ) -> Result<Vec<Instance>, ProviderError> {
        let instances = self.aws.launch_together(request, count).await?;
        Ok(self.boot(request, instances))
    }

    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError> {
        self.aws.kind(shape)
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, name: &str) -> Result<(), ProviderError> {
        self.aws.claim(id, pod, name).await
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        self.aws.find(token).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        self.aws.describe(id).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.aws.terminate(id).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.aws.list(scope).await
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        self.aws.console_tail(id).await
    }
}

#[test]
fn a_hundred_pods_at_once_on_ec2_take_few_launches_within_its_limits() {
    let Some(emulator) = Emulator::start() else { return };
    let values = [
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("PODVM_AMI_ID", emulator.register_image()),
        ("AWS_SUBNET_ID", emulator.subnets().remove(0)),
        ("AWS_SG_IDS", emulator.security_group()),
    ];
    let value = |name: &str| {
        let found = values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    };
    let mut settings = AwsArguments::from_values(value).parse().unwrap();
    settings.aws.ec2_endpoint = Some(emulator.url());
    emulator.limit_requests();

    let runtime = new_runtime();
    let aws = AwsProvider::connect(settings, Timing::default());
    let aws = runtime.block_on(aws).unwrap();
    let port = super::free_port();
    let provider = Arc::new(Reached {
        aws,
        port,
        claims: Claims::default(),
        booted: Mutex::default(),
    });
    let folder = tempfile::tempdir().unwrap();
    let run = Run::new(folder.path(), provider.clone(), port);
    let pods = pods(100);
    run.create(&pods);
    assert_eq!(run.block(Run::start(run.sandboxes.clone(), pods.clone())), 100);

    let serving: BTreeSet<String> = run.serving().iter().map(ToString::to_string).collect();
    let living: BTreeSet<String> = emulator.living_instances().into_iter().collect();
    assert_eq!((serving.len(), &living), (100, &serving));
    let launches = emulator.requests_of("RunInstances").len();
    assert!(launches <= 12, "{launches} launches");
    assert_eq!(emulator.throttled(), [], "within its limits nothing is refused");
    let of_pods = emulator.living_instances_with("kata.peerpods.io/assignment", "pod");
    assert_eq!(of_pods.len(), 100, "each has the tags of its pod");
    eprintln!("100 pods: {launches} launches");
}
