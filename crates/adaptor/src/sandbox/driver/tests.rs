//! A sandbox's life with a journal on disk and a provider that misbehaves: what is recorded when, and what a crash leaves.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use peerpods_proto::payload::{JoinSecret, ScratchEncryption};
use peerpods_provider::{
    Instance, LaunchRequest, LaunchToken, Provider,
    conformance::warm_request,
    fake::{Call, FakeProvider, Fault},
};
use peerpods_tunnel::channel::{ClientIdentity, ServerKeyPin};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
};

use crate::{
    journal::Journal,
    metrics::Metrics,
    sandbox::{Effects, Plan, Reason, Record, SandboxId, Sandboxes, State, TableError, example},
    warm::{Member, MemberState, Turn, WarmVm},
};

/// Long enough for a machine that is busy, short enough for a person who waits.
const LIMIT: Duration = Duration::from_secs(20);

/// The step of a sandbox's life at which the adaptor is stopped, and whether the step took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    Nowhere,
    BeforeClaim,
    AfterClaim,
    BeforeDiscard,
    BeforeLaunch,
    AfterLaunch,
    InJoin,
    BeforeDrain,
    AfterDrain,
}

/// A world in which every effect but the provider's is imagined, and each can be made to hang.
struct World {
    provider: FakeProvider,
    journal: Journal,
    stuck: Stuck,
    reached: Notify,
    /// VMs that wait for a pod.
    pool: Mutex<Vec<WarmVm>>,
    /// What the journal held as each effect began.
    recorded: Mutex<Vec<String>>,
}

impl World {
    /// Notes what is durable now.
    fn note(&self, plan: &Plan) {
        let records = self.journal.read().unwrap().sandboxes;
        let own = records.iter().find(|record| record.plan.sandbox == plan.sandbox);
        let name = own.map_or("nothing", |record| record.state.name());
        self.recorded.lock().unwrap().push(name.to_owned());
    }

    fn lives(&self, instance: &Instance) -> bool {
        let living = self.provider.instances();
        living.iter().any(|one| one.instance == *instance)
    }

    /// Never returns where the test wants the adaptor to be killed.
    async fn hang_at(&self, point: Stuck) {
        if self.stuck == point {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Effects for World {
    fn take_warm(&self, _: &Plan) -> Option<WarmVm> {
        self.pool.lock().unwrap().pop()
    }

    fn is_crowded(&self) -> bool {
        false
    }

    async fn queue(&self, _: &Plan) -> Result<Turn, Reason> {
        Ok(Turn::Launch)
    }

    async fn claim(&self, plan: &Plan, warm: &WarmVm) -> Result<(), String> {
        self.note(plan);
        self.hang_at(Stuck::BeforeClaim).await;
        if !self.lives(&warm.instance) {
            return Err("it has ended".to_owned());
        }
        self.hang_at(Stuck::AfterClaim).await;
        Ok(())
    }

    async fn discard(&self, plan: &Plan, warm: &WarmVm) {
        self.note(plan);
        self.hang_at(Stuck::BeforeDiscard).await;
        self.provider.terminate(&warm.instance.id).await.unwrap();
    }

    async fn launch(&self, plan: &Plan, token: &LaunchToken) -> Result<Instance, Reason> {
        self.note(plan);
        self.hang_at(Stuck::BeforeLaunch).await;
        let request = LaunchRequest {
            token: token.clone(),
            owner: plan.owner(),
            shape: plan.shape.clone(),
            name: "podvm".to_owned(),
            tags: Default::default(),
            payload: Default::default(),
        };
        let launched = self.provider.launch(&request).await;
        self.hang_at(Stuck::AfterLaunch).await;
        launched.map_err(|error| Reason::NotLaunched(error.to_string()))
    }

    async fn join(&self, plan: &Plan, _: &Instance) -> Result<ServerKeyPin, Reason> {
        self.note(plan);
        self.hang_at(Stuck::InJoin).await;
        Ok("ab".repeat(32).parse().unwrap())
    }

    async fn serve(
        &self,
        plan: &Plan,
        instance: &Instance,
        _: ServerKeyPin,
        reachable: Box<dyn FnOnce() + Send>,
    ) -> Reason {
        self.note(plan);
        reachable();
        while self.lives(instance) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Reason::Ended("it was killed".to_owned())
    }

    async fn drain(&self, plan: &Plan, token: &LaunchToken, instance: Option<&Instance>) {
        self.note(plan);
        self.hang_at(Stuck::BeforeDrain).await;
        if let Some(instance) = instance {
            while self.provider.terminate(&instance.id).await.is_err() {}
        }
        if let Some(found) = self.provider.find(token).await.unwrap() {
            self.provider.terminate(&found.id).await.unwrap();
        }
        self.hang_at(Stuck::AfterDrain).await;
    }
}

/// One run of the adaptor, on the journal in `folder`; dropping it is its sudden death.
struct Adaptor {
    runtime: Runtime,
    world: Arc<World>,
    sandboxes: Sandboxes,
    metrics: Arc<Metrics>,
}

impl Adaptor {
    fn run(folder: &Path, provider: &FakeProvider, stuck: Stuck) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let journal = Journal::open(folder).unwrap();
        let world = Arc::new(World {
            provider: provider.clone(),
            journal: journal.clone(),
            stuck,
            reached: Notify::new(),
            pool: Mutex::default(),
            recorded: Mutex::default(),
        });
        let metrics = Arc::new(Metrics::default());
        let sandboxes = Sandboxes::new(journal, world.clone(), metrics.clone());
        let entered = runtime.enter();
        sandboxes.replay().unwrap();
        drop(entered);
        Self {
            runtime,
            world,
            sandboxes,
            metrics,
        }
    }

    fn create(&self) -> Result<(), TableError> {
        let place = self.sandboxes.place(&id())?;
        let plan = example("pod-1", place.vni);
        let token = LaunchToken::try_from("pp-1".to_owned()).unwrap();
        let record = Record {
            plan,
            state: State::Reserved { token },
        };
        self.block(self.sandboxes.create(place, record))
    }

    fn start(&self) -> Result<(), TableError> {
        self.block(self.sandboxes.start(&id()))
    }

    fn stop(&self) {
        self.block(self.sandboxes.stop(&id(), Reason::Requested));
    }

    fn stop_and_wait(&self) {
        self.stop();
        self.block(self.sandboxes.gone(&id()));
    }

    /// Asks for the VM, or its end, until the world hangs; nobody waits for an answer any more.
    fn until_stuck(&self, ask: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(ask);
        self.block(self.world.reached.notified());
    }

    fn state(&self) -> Option<State> {
        self.sandboxes.state(&id())
    }

    /// Lets a VM wait for a pod, with its record, as the pool does.
    fn add_warm(&self, name: &str) -> WarmVm {
        let mut request = warm_request(name);
        request.owner.cluster = "c".to_owned();
        let instance = self.block(self.world.provider.launch(&request)).unwrap();
        let member = Member {
            token: request.token,
            scratch_encryption: ScratchEncryption::None,
            kind: self.world.provider.kind(&request.shape).unwrap(),
            identity: ClientIdentity::issue(name).unwrap(),
            join_secret: JoinSecret::new([7; 32]),
            state: MemberState::Waiting {
                instance,
                server_key: "ab".repeat(32).parse().unwrap(),
            },
        };
        self.block(self.world.journal.put_warm(&member)).unwrap();
        let warm = member.warm_vm().unwrap();
        self.world.pool.lock().unwrap().push(warm.clone());
        warm
    }

    /// The VMs that the journal has in the pool.
    fn pooled(&self) -> Vec<Instance> {
        let members = self.world.journal.read().unwrap().warm;
        let instances = members.iter().filter_map(Member::instance);
        instances.cloned().collect()
    }

    fn records(&self) -> usize {
        self.world.journal.read().unwrap().sandboxes.len()
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, work).await };
        self.runtime.block_on(limited).expect("it ends in time")
    }

    fn die(self) {
        // Whatever runs is dropped where it stands; the journal's file is what remains.
        self.runtime.shutdown_timeout(LIMIT);
    }
}

fn id() -> SandboxId {
    SandboxId::try_from("pod-1".to_owned()).unwrap()
}

#[test]
fn every_effect_finds_its_state_recorded() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.create().unwrap();
    assert_eq!((adaptor.records(), provider.launched()), (1, 0));
    adaptor.start().unwrap();
    assert!(matches!(adaptor.state(), Some(State::Ready { .. })));
    adaptor.stop_and_wait();
    assert_eq!(
        *adaptor.world.recorded.lock().unwrap(),
        ["being launched", "booting", "ready", "being ended"]
    );
    assert_eq!((adaptor.records(), provider.instances().len()), (0, 0));
}

#[test]
fn a_life_is_counted_and_measured_by_its_states() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    let figures = |adaptor: &Adaptor| adaptor.metrics.text(&adaptor.sandboxes.states(), 0);
    let has = |text: &str, line: &str| assert!(text.lines().any(|one| one == line), "no {line} in\n{text}");
    adaptor.create().unwrap();
    has(
        &figures(&adaptor),
        r#"peerpods_adaptor_sandboxes{state="reserved"} 1"#,
    );
    adaptor.start().unwrap();
    let running = figures(&adaptor);
    has(&running, r#"peerpods_adaptor_sandboxes{state="ready"} 1"#);
    has(&running, r#"peerpods_adaptor_sandboxes{state="reserved"} 0"#);
    has(&running, "peerpods_adaptor_vm_start_duration_seconds_count 1");
    for state in ["reserved", "launching", "booting"] {
        let stage = format!(r#"peerpods_adaptor_vm_stage_duration_seconds_count{{state="{state}"}} 1"#);
        has(&running, &stage);
    }
    adaptor.stop_and_wait();
    let ended = figures(&adaptor);
    has(&ended, r#"peerpods_adaptor_vm_ends_total{reason="requested"} 1"#);
    has(&ended, r#"peerpods_adaptor_sandboxes{state="ready"} 0"#);
}

#[test]
fn killed_anywhere_it_goes_on_with_the_same_instance() {
    for stuck in [Stuck::BeforeLaunch, Stuck::AfterLaunch, Stuck::InJoin] {
        let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
        let adaptor = Adaptor::run(folder.path(), &provider, stuck);
        adaptor.create().unwrap();
        let sandboxes = adaptor.sandboxes.clone();
        adaptor.until_stuck(async move { drop(sandboxes.start(&id()).await) });
        adaptor.die();

        let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
        adaptor.start().unwrap();
        assert_eq!(provider.launched(), 1, "{stuck:?}");
        assert_eq!(provider.instances().len(), 1, "{stuck:?}");
        adaptor.stop_and_wait();
        assert_eq!(
            (adaptor.records(), provider.instances().len()),
            (0, 0),
            "{stuck:?}"
        );
    }
}

#[test]
fn a_warm_vm_is_the_pools_or_the_sandboxs_and_serves_without_a_launch() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    let warm = adaptor.add_warm("waiting");
    adaptor.create().unwrap();
    assert_eq!(adaptor.pooled(), std::slice::from_ref(&warm.instance));
    adaptor.start().unwrap();
    let serves = matches!(adaptor.state(), Some(State::Ready { instance, .. }) if instance == warm.instance);
    assert!(serves, "{:?}", adaptor.state());
    assert_eq!((adaptor.pooled().len(), provider.launched()), (0, 1));
    adaptor.stop_and_wait();
    assert_eq!(
        *adaptor.world.recorded.lock().unwrap(),
        ["being claimed", "booting", "ready", "being ended"]
    );
    assert_eq!((adaptor.records(), provider.instances().len()), (0, 0));
}

#[test]
fn killed_while_it_claims_it_goes_on_with_the_same_vm_and_the_pool_has_it_no_more() {
    for stuck in [Stuck::BeforeClaim, Stuck::AfterClaim] {
        let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
        let adaptor = Adaptor::run(folder.path(), &provider, stuck);
        let warm = adaptor.add_warm("waiting");
        adaptor.create().unwrap();
        let sandboxes = adaptor.sandboxes.clone();
        adaptor.until_stuck(async move { drop(sandboxes.start(&id()).await) });
        assert_eq!(adaptor.pooled(), [], "{stuck:?}");
        adaptor.die();

        let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
        adaptor.start().unwrap();
        let serves =
            matches!(adaptor.state(), Some(State::Ready { instance, .. }) if instance == warm.instance);
        assert!(serves, "{stuck:?}: {:?}", adaptor.state());
        assert_eq!((adaptor.pooled().len(), provider.launched()), (0, 1), "{stuck:?}");
        adaptor.stop_and_wait();
        assert_eq!(provider.instances().len(), 0, "{stuck:?}");
    }
}

#[test]
fn killed_while_it_replaces_a_warm_vm_it_replaces_it_once() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::BeforeDiscard);
    let warm = adaptor.add_warm("waiting");
    provider.kill(&warm.instance.id);
    adaptor.create().unwrap();
    let sandboxes = adaptor.sandboxes.clone();
    adaptor.until_stuck(async move { drop(sandboxes.start(&id()).await) });
    adaptor.die();

    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.start().unwrap();
    let state = adaptor.state();
    let serves = matches!(&state, Some(State::Ready { instance, .. }) if *instance != warm.instance);
    assert!(serves, "{state:?}");
    assert_eq!((provider.launched(), provider.instances().len()), (2, 1));
    adaptor.stop_and_wait();
    assert_eq!(provider.instances().len(), 0);
}

#[test]
fn stopped_while_a_warm_vm_is_claimed_that_vm_ends() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::AfterClaim);
    adaptor.add_warm("waiting");
    adaptor.create().unwrap();
    let sandboxes = adaptor.sandboxes.clone();
    adaptor.until_stuck(async move { drop(sandboxes.start(&id()).await) });
    adaptor.stop_and_wait();
    assert_eq!((adaptor.records(), provider.instances().len()), (0, 0));
    assert_eq!(adaptor.pooled(), []);
}

#[test]
fn killed_while_it_serves_it_serves_again() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.create().unwrap();
    adaptor.start().unwrap();
    adaptor.die();

    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.start().unwrap();
    assert!(matches!(adaptor.state(), Some(State::Ready { .. })));
    assert_eq!(provider.launched(), 1);
    adaptor.stop_and_wait();
    assert_eq!(provider.instances().len(), 0);
}

#[test]
fn killed_while_it_ends_a_vm_it_ends_it_all_the_same() {
    for stuck in [Stuck::BeforeDrain, Stuck::AfterDrain] {
        let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
        let adaptor = Adaptor::run(folder.path(), &provider, stuck);
        adaptor.create().unwrap();
        adaptor.start().unwrap();
        let sandboxes = adaptor.sandboxes.clone();
        adaptor.until_stuck(async move { sandboxes.stop(&id(), Reason::Requested).await });
        adaptor.die();

        // Nobody asks again.
        let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
        adaptor.block(adaptor.sandboxes.gone(&id()));
        assert_eq!(
            (adaptor.records(), provider.instances().len()),
            (0, 0),
            "{stuck:?}"
        );
    }
}

#[test]
fn stopped_while_the_launch_is_unanswered_its_instance_ends() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::AfterLaunch);
    adaptor.create().unwrap();
    let sandboxes = adaptor.sandboxes.clone();
    adaptor.until_stuck(async move { drop(sandboxes.start(&id()).await) });
    assert_eq!(provider.instances().len(), 1);
    adaptor.stop_and_wait();
    assert_eq!((adaptor.records(), provider.instances().len()), (0, 0));
}

#[test]
fn a_launch_that_fails_after_it_took_effect_leaves_nothing() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    provider.fail_next(Call::Launch, Fault::LoseReply);
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.create().unwrap();
    let refused = adaptor.start().unwrap_err();
    assert!(refused.to_string().contains("could not be launched"), "{refused}");
    adaptor.block(adaptor.sandboxes.gone(&id()));
    assert_eq!(
        (provider.launched(), adaptor.records(), provider.instances().len()),
        (1, 0, 0)
    );
}

#[test]
fn many_starts_make_one_vm() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    adaptor.create().unwrap();
    let (first, second, third) = (id(), id(), id());
    let started = adaptor.block(async {
        tokio::join!(
            adaptor.sandboxes.start(&first),
            adaptor.sandboxes.start(&second),
            adaptor.sandboxes.start(&third)
        )
    });
    assert!(started.0.is_ok() && started.1.is_ok() && started.2.is_ok());
    assert_eq!(provider.launched(), 1);
}

#[test]
fn a_vm_that_ends_by_itself_ends_its_sandbox_with_the_reason() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::AfterDrain);
    adaptor.create().unwrap();
    adaptor.start().unwrap();
    let instance = provider.instances().remove(0).instance.id;
    provider.kill(&instance);
    adaptor.block(adaptor.world.reached.notified());
    let refused = adaptor.start().unwrap_err();
    assert_eq!(refused.to_string(), "the VM ended: it was killed");
}

#[test]
fn a_sandbox_is_made_once_and_an_unknown_one_is_named() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), FakeProvider::new());
    let adaptor = Adaptor::run(folder.path(), &provider, Stuck::Nowhere);
    assert_eq!(
        adaptor.start().unwrap_err().to_string(),
        "sandbox pod-1 is not known"
    );
    adaptor.create().unwrap();
    assert_eq!(
        adaptor.create().unwrap_err().to_string(),
        "sandbox pod-1 exists already and is reserved"
    );
    // To stop what never was is no error: the container runtime repeats itself.
    adaptor.stop_and_wait();
    adaptor.stop_and_wait();
}
