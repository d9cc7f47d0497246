//! Operator and webhook are killed at random while KataConfigs, limits and pods come and go.
//!
//! `PEERPODS_TEST_SEED=N` repeats what happened.

mod cluster;
mod schedule;

use std::{
    env,
    time::{Duration, Instant},
};

use cluster::{Cluster, Refusals};
use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container};
use schedule::{Schedule, Step};

/// How much of it.
struct Extent {
    lasts: Duration,
    pods: usize,
    reinstalls_one_of: usize,
}

fn extent() -> Extent {
    if crate::is_full() {
        Extent {
            lasts: Duration::from_secs(600),
            pods: 3,
            reinstalls_one_of: 40,
        }
    } else {
        Extent {
            lasts: Duration::from_secs(12),
            pods: 2,
            // A removal and an installation take longer than all the rest: `disruptions/installation.rs` has one of each.
            reinstalls_one_of: usize::MAX,
        }
    }
}

fn seed() -> u64 {
    let given = env::var("PEERPODS_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("PEERPODS_TEST_SEED={seed}");
    seed
}

/// What has been done to the cluster.
struct Run<'bed> {
    cluster: &'bed Cluster<'bed>,
    pods: Vec<Option<Pod<'bed>>>,
    refusals: Refusals,
}

impl<'bed> Run<'bed> {
    fn step(&mut self, step: Step) {
        match step {
            Step::KillOperator => self.cluster.kill_operator(),
            Step::KillWebhook(number) => {
                let replicas = self.cluster.webhooks();
                self.kill_webhooks(replicas.get(number % replicas.len().max(1)).cloned().into_iter());
            }
            Step::KillWebhooks => self.kill_webhooks(self.cluster.webhooks().into_iter()),
            Step::SetLimit(limit) => self.cluster.set_limit(limit),
            Step::Toggle(number) => match self.pods[number].take() {
                Some(pod) => pod.delete(),
                None => self.pods[number] = Some(self.create(number)),
            },
            Step::Reinstall([while_it_goes, while_it_comes]) => {
                self.reinstall(&while_it_goes, &while_it_comes);
            }
        }
    }

    fn kill_webhooks(&mut self, processes: impl Iterator<Item = String>) {
        processes.for_each(|process| self.cluster.kill(&process));
        self.refusals.a_restart_begins();
    }

    /// Makes a pod, again until it is not refused.
    fn create(&mut self, number: usize) -> Pod<'bed> {
        let name = format!("chaos-{number}");
        let pod = PodBuilder::new(&name, Runtime::PeerPod, vec![container("main", "sleep 1000")]);
        loop {
            let created = pod.try_create(self.cluster.bed);
            if let Some(created) = self.refusals.note(created) {
                return created;
            }
        }
    }

    /// A pod that uses the class keeps everything there; the removal begins when it goes.
    fn reinstall(&mut self, while_it_goes: &[Duration], while_it_comes: &[Duration]) {
        let pods: Vec<_> = self.pods.iter_mut().filter_map(Option::take).collect();
        self.cluster.begin_removal();
        if !pods.is_empty() {
            self.cluster.wait_in_progress("BlockedByExistingKataPods");
        }
        pods.into_iter().for_each(Pod::delete);
        self.cluster.kill_operator_after_each(while_it_goes);
        self.cluster.wait_removed();
        self.cluster.wait_no_machine();
        self.cluster.begin_installation();
        self.cluster.kill_operator_after_each(while_it_comes);
        self.cluster.wait_installed();
    }

    /// Pods are asked for all the while, and none of them is made.
    fn ask_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.refusals.note(self.cluster.ask());
        }
    }
}

#[test]
fn killed_at_random_the_end_is_what_the_specs_say() {
    let (bed, extent) = (Bed::connect(), extent());
    let cluster = Cluster::new(&bed);
    let mut schedule = Schedule::new(seed(), extent.pods, extent.reinstalls_one_of);
    let mut run = Run {
        cluster: &cluster,
        pods: (0..extent.pods).map(|_| None).collect(),
        refusals: Refusals::default(),
    };
    let start = Instant::now();
    while start.elapsed() < extent.lasts {
        let (step, pause) = schedule.next();
        eprintln!("{:6.1} s: {step:?}", start.elapsed().as_secs_f64());
        run.step(step);
        run.ask_for(pause);
    }

    cluster.set_limit(extent.pods);
    for number in 0..extent.pods {
        if run.pods[number].is_none() {
            run.pods[number] = Some(run.create(number));
        }
    }
    cluster.wait_installed();
    cluster.wait_capacity(extent.pods);
    for pod in run.pods.iter().flatten() {
        pod.wait_ready();
        assert_eq!(pod.shell("echo works"), "works");
    }
    run.pods.into_iter().flatten().for_each(Pod::delete);
    cluster.wait_no_machine();
    eprintln!("the longest refusal: {:?}", run.refusals.longest());
}
