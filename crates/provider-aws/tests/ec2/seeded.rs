//! Sequences of launches and ends while everything goes wrong, by a seed that is printed: at any moment at most as many
//! instances of a token as it was used for, those that were told of and no others, and in the end none, nor any elastic address
//! of one that was ended.
//!
//! `PEERPODS_TEST_SEED=N` repeats one; `PEERPODS_TEST_RUNS=N` makes that many.

use std::{collections::BTreeMap, env, time::Duration};

use fastrand::Rng;
use peerpods_provider::{
    Instance, LaunchRequest, Provider, ProviderError,
    conformance::{request, warm_request},
};
use peerpods_provider_aws::{AwsProvider, AwsProviderSettings, Timing};
use peerpods_testkit::ec2::{Emulator, Fault, Request};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::bed::{Bed, ELASTIC, HURRY};

/// In `make test`; hundreds take minutes.
const RUNS: u64 = 4;
const STEPS: usize = 24;
const TOKENS: usize = 5;

/// Shorter than what the provider allows for, as it must be.
const HIDDEN: Duration = Duration::from_millis(60);
const TIMING: Timing = Timing {
    visibility: Duration::from_millis(250),
    ..HURRY
};

const TOKEN: &str = "kata.peerpods.io/token";

/// One request of eight goes wrong.
fn faults(mut random: Rng) -> impl FnMut(&Request) -> Option<Fault> + Send {
    move |request| {
        if random.u8(..8) > 0 {
            return None;
        }
        let refusals = ["RequestLimitExceeded", "Unavailable"];
        Some(match (random.u8(..6), request.action.as_str()) {
            (0, _) => Fault::LoseRequest,
            (1, _) => Fault::LoseReply,
            (2, _) => Fault::Duplicate,
            (3, _) => Fault::FailAfter(500, "InternalError"),
            (4, "RunInstances") => Fault::Refuse(500, "InsufficientInstanceCapacity"),
            (4, "AllocateAddress") => Fault::Refuse(400, "AddressLimitExceeded"),
            (_, _) => Fault::Refuse(503, refusals[random.usize(..2)]),
        })
    }
}

/// What the world knows of one token: a pod's, or a batch's.
struct Pod {
    request: LaunchRequest,
    count: usize,
    /// The instances that the provider told of.
    told: Vec<Instance>,
}

/// A provider with all that it does: killed, it makes no further request.
struct Process {
    runtime: Option<Runtime>,
    provider: AwsProvider,
}

impl Process {
    async fn start(settings: AwsProviderSettings) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // What it is asked first may go wrong as well: it is started again until it is there.
        let connecting = runtime.spawn(async move {
            loop {
                if let Ok(provider) = AwsProvider::connect(settings.clone(), TIMING).await {
                    return provider;
                }
            }
        });
        Self {
            provider: connecting.await.unwrap(),
            runtime: Some(runtime),
        }
    }

    /// Lets the process do something.
    async fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        call: impl FnOnce(AwsProvider) -> F,
    ) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(call(self.provider.clone())).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Run {
    bed: Bed,
    process: Process,
    random: Rng,
    /// By token. A token is not used again after its end, as the adaptor does not.
    pods: BTreeMap<usize, Pod>,
    next: usize,
}

impl Run {
    async fn step(&mut self) {
        match self.random.u8(..10) {
            0..=4 => self.launch().await,
            5..=6 => self.stop().await,
            7 => self.restart().await,
            8 => self.kill(),
            _ => self.look().await,
        }
        self.at_most_one_each();
    }

    /// The adaptor is killed wherever it is, and started again.
    async fn restart(&mut self) {
        if let Some(runtime) = self.process.runtime.take() {
            runtime.shutdown_background();
        }
        // What it had sent arrives before its successor has started.
        self.bed.emulator.wait_idle();
        self.process = Process::start(self.bed.settings.clone()).await;
    }

    /// Launches a new pod's VM, or one's again that was not heard of.
    async fn launch(&mut self) {
        let waiting = self
            .pods
            .iter()
            .find(|(_, pod)| pod.told.is_empty())
            .map(|(number, _)| *number);
        let number = match waiting {
            Some(number) => number,
            None if self.pods.len() == TOKENS => return,
            None => {
                self.next += 1;
                let name = format!("seeded-{}", self.next);
                let (request, count) = match self.random.bool() {
                    true => (request(&name, "node-a"), 1),
                    false => (warm_request(&name), self.random.usize(2..=4)),
                };
                let told = Vec::new();
                self.pods.insert(self.next, Pod { request, count, told });
                self.next
            }
        };
        let pod = self.pods.get_mut(&number).unwrap();
        // The adaptor gives up waiting now and then.
        let limit = Duration::from_millis(if self.random.bool() { 5 } else { 60_000 });
        let (request, count) = (pod.request.clone(), pod.count);
        let launch = async move |provider: AwsProvider| {
            timeout(limit, provider.launch_together(&request, count)).await
        };
        if let Ok(Ok(instances)) = self.process.run(launch).await {
            pod.told = instances;
        }
    }

    /// Ends a pod's VM as the adaptor drains: the instance that it knows, then what is found by the token.
    async fn stop(&mut self) {
        let numbers: Vec<usize> = self.pods.keys().copied().collect();
        let Some(number) = self.random.choice(numbers) else {
            return;
        };
        let pod = &self.pods[&number];
        if drain(&self.process, pod).await.is_ok() {
            let token = pod.request.token.as_str().to_owned();
            self.pods.remove(&number);
            assert_eq!(
                instances_of(&self.bed.emulator, &token),
                [""; 0],
                "one is left of {token}, which was ended"
            );
            let addresses = self.bed.emulator.addresses_with(TOKEN, &token);
            assert_eq!(addresses, [""; 0], "{token} was ended, and has addresses");
        }
    }

    /// An instance ends by itself.
    fn kill(&mut self) {
        let living = self.bed.emulator.living_instances();
        if let Some(id) = self.random.choice(living) {
            self.bed.emulator.terminate(&id);
        }
    }

    async fn look(&mut self) {
        let Some(pod) = self.random.choice(self.pods.values()) else {
            return;
        };
        let token = pod.request.token.clone();
        let found = self
            .process
            .run(async move |provider| provider.find_all(&token).await)
            .await;
        for found in found.unwrap_or_default() {
            let is_told = pod.told.is_empty() || pod.told.contains(&found);
            assert!(is_told, "another instance than was told of: {found:?}");
        }
    }

    fn at_most_one_each(&self) {
        for pod in self.pods.values() {
            let token = pod.request.token.as_str();
            let living = instances_of(&self.bed.emulator, token);
            assert!(living.len() <= pod.count, "{living:?} for {token}");
            let is_told = |id: &String| pod.told.iter().any(|told| told.id.as_str() == id);
            assert!(
                pod.told.is_empty() || living.iter().all(is_told),
                "{living:?} for {token}, and told was {:?}",
                pod.told
            );
        }
    }
}

async fn drain(process: &Process, pod: &Pod) -> Result<(), ProviderError> {
    let (told, token) = (pod.told.clone(), pod.request.token.clone());
    let drain = async move |provider: AwsProvider| {
        let found = provider.find_all(&token).await?;
        for instance in told.iter().chain(&found) {
            provider.terminate(&instance.id).await?;
        }
        Ok(())
    };
    process.run(drain).await
}

/// The instances that live and carry the token, by what EC2 really has.
fn instances_of(emulator: &Emulator, token: &str) -> Vec<String> {
    emulator.living_instances_with(TOKEN, token)
}

async fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut values = vec![("PODVM_INSTANCE_TYPES", "m6i.large")];
    if random.bool() {
        values.extend(ELASTIC);
    }
    let Some(mut bed) = Bed::start(&values).await else {
        return;
    };
    let zones = random.usize(1..=2);
    bed.settings.subnets = bed.emulator.subnets()[..zones].to_vec();
    bed.emulator.set_visibility(HIDDEN);
    let process = Process::start(bed.settings.clone()).await;
    bed.emulator.set_faults(faults(random.fork()));
    let mut run = Run {
        bed,
        process,
        random,
        pods: BTreeMap::new(),
        next: 0,
    };
    for _ in 0..STEPS {
        run.step().await;
    }
    // The end of the world: everything is drained, again until it is.
    for pod in run.pods.values() {
        while drain(&run.process, pod).await.is_err() {}
    }
    assert_eq!(run.bed.emulator.living_instances(), [""; 0]);
    assert_eq!(run.bed.emulator.addresses(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn never_two_instances_and_never_one_left() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("PEERPODS_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PEERPODS_TEST_RUNS").unwrap_or(RUNS))
            .map(|_| fastrand::u64(..))
            .collect(),
    };
    for seed in seeds {
        eprintln!("PEERPODS_TEST_SEED={seed}");
        run(seed).await;
    }
}
