//! The loop: what is observed is planned for, and the plan is performed.

use std::{
    collections::BTreeMap,
    future::pending,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::time::sleep;

use crate::{
    health::{Doing, Health},
    installation::Installation,
    metrics::{Metrics, NodeRoom, Outcome},
    observe::Cluster,
    observed::{ClassUse, NodeName, Observed},
    perform::{Account, Performer, Providers, recorder},
    plan::{Plan, needs_class_use, plan},
};

/// What changes together is planned for together: a rollout of a DaemonSet changes a hundred pods within a second.
const GATHERING: Duration = Duration::from_millis(100);
/// The pause after a round in which something failed; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What failed is tried again at least so often: somebody may wait for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked who uses the runtime class, while something waits for nobody to do so. All pods are read for it.
const CLASS_USE_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that an operator acts with.
pub struct Operator {
    /// With the rights of [`crate::permissions`].
    pub client: Client,
    /// How it installs.
    pub installation: Installation,
    /// With what it ends VMs that nobody else ended.
    pub providers: Providers,
    /// Who it is, in events.
    pub identity: String,
}

impl Operator {
    /// Acts for ever. It can be dropped, or the process killed, at any moment.
    pub async fn run(&self, health: &Health, metrics: &Metrics) {
        health.set(Doing::Reading);
        let cluster = Cluster::follow(&self.client, &self.installation);
        let performer = Performer {
            client: self.client.clone(),
            cluster: &cluster,
            installation: &self.installation,
            providers: &self.providers,
            account: Account::default(),
            metrics,
            recorder: recorder(&self.client, &self.identity),
        };
        let mut after = After::default();
        loop {
            tokio::select! {
                () = after.wait_for_change(&cluster) => {}
                () = after.wait_for_time() => {}
            }
            sleep(GATHERING).await;
            let Some(observed) = cluster.picture() else {
                after = After::default();
                continue;
            };
            health.set(Doing::Acting {
                since: Instant::now(),
            });
            after = round(&performer, observed, after).await;
            health.set(Doing::Waiting);
        }
    }
}

/// What a round leaves for the next one.
#[derive(Default)]
struct After {
    /// What failed, in words.
    failures: Vec<String>,
    /// What was done: to do the same again at once would not help.
    done: Plan,
    /// How long it is waited after failures.
    pause: Option<Duration>,
    /// When only the clock makes a difference.
    look_again: Option<Duration>,
}

impl After {
    /// After a failure, changes wait too: among them may be what the failed action left.
    async fn wait_for_change(&self, cluster: &Cluster) {
        if let Some(pause) = self.pause {
            sleep(pause).await;
        }
        cluster.changed().await;
    }

    async fn wait_for_time(&self) {
        match self.pause.or(self.look_again) {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    }
}

async fn round(performer: &Performer<'_>, mut observed: Observed, before: After) -> After {
    let mut failures = Vec::new();
    observed.failures = before.failures;
    let waits_for_pods = needs_class_use(&observed);
    if waits_for_pods {
        match performer.cluster.read_class_use().await {
            Ok(class_use) => observed.class_use = class_use,
            // Not known is not unused: the plan waits.
            Err(error) => {
                observed.class_use = ClassUse::NotRead;
                failures.push(format!("cannot list pods: {}", peerpods_error::chain(&error)));
            }
        }
    }
    report(performer.metrics, &observed);
    let planned = plan(&observed, performer.installation, Timestamp::now());
    failures.extend(performer.perform(&planned.actions).await);
    let is_repeated = !planned.actions.is_empty() && planned.actions == before.done.actions;
    let pause = (!failures.is_empty() || is_repeated).then(|| {
        before
            .pause
            .map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE))
    });
    performer.metrics.round(if failures.is_empty() {
        Outcome::Done
    } else {
        Outcome::Failed
    });
    let mut look_again = planned.look_again_after;
    if waits_for_pods {
        look_again = Some(look_again.map_or(CLASS_USE_INTERVAL, |time| time.min(CLASS_USE_INTERVAL)));
    }
    // What failed is said in a status, and what no longer fails is not: that takes another round.
    if failures != observed.failures {
        look_again = Some(Duration::ZERO);
    }
    After {
        failures,
        done: planned,
        pause,
        look_again,
    }
}

fn report(metrics: &Metrics, observed: &Observed) {
    let statuses = observed
        .kata_configs
        .iter()
        .filter_map(|config| config.status.as_ref());
    let nodes = statuses
        .max_by_key(|status| status.kata_nodes.node_count)
        .map(|status| &status.kata_nodes);
    metrics.sees(
        nodes.unwrap_or(&peerpods_api::KataNodes::default()),
        observed.peer_pods.len(),
    );
    metrics.sees_room(room(observed));
}

/// Of every node that may have VMs, how many it may have and has.
fn room(observed: &Observed) -> impl Iterator<Item = NodeRoom> {
    let mut machines: BTreeMap<&NodeName, u64> = BTreeMap::new();
    for node in observed.peer_pods.iter().filter_map(|one| one.node.as_ref()) {
        *machines.entry(node).or_default() += 1;
    }
    observed.nodes.iter().filter_map(move |(name, node)| {
        Some(NodeRoom {
            node: name.0.clone(),
            capacity: node.capacity.as_ref()?.parse().ok()?,
            machines: machines.get(name).copied().unwrap_or_default(),
        })
    })
}
