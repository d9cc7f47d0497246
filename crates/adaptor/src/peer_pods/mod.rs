//! `PeerPod` objects: what the cluster sees of the VMs of this node.
//!
//! ```text
//! launch ─► announce ─► object, then VM        any state ─► show ─► status        VM gone ─► release ─► object gone
//! ```
//!
//! An object is made before its VM where the API server answers; where it does not, the VM is launched all the same and the
//! object follows. Its finalizer keeps it until the provider confirmed that the VM is gone. That its time has come is in the
//! journal before the sandbox's record leaves it, so that neither an outage of the API server nor a crash loses an object.

mod keeper;
mod object;
mod publisher;
mod reaper;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use peerpods_provider::Instance;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tracing::Instrument;

pub(crate) use self::object::ObjectKey;
use self::publisher::Attempt;
use crate::{
    journal::{Journal, JournalError},
    kubernetes::Cluster,
    sandbox::{Plan, SandboxId},
};

/// How long a launch waits for the object: an API server that is well answers in milliseconds, and a pod must not wait for
/// one that is not.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(3);

/// Whether objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerPodObjects {
    /// One for each VM, where the API server can be reached.
    Write,
    /// None.
    Omit,
}

/// What is to be seen of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The provider was or will be asked for it.
    Launching,
    /// It exists.
    Booting(Instance),
    /// Its agent answered.
    Ready(Instance),
    /// It is being ended, and why.
    Draining(Option<Instance>),
}

/// The objects of this node's VMs. A clone keeps the same ones.
#[derive(Clone)]
pub(crate) struct PeerPods {
    cluster: Cluster,
    journal: Journal,
    /// What objects say of where VMs run.
    cloud_provider: &'static str,
    publishers: Arc<Mutex<BTreeMap<SandboxId, Publisher>>>,
    released: Arc<Notify>,
}

/// The task that keeps one object as it should be.
struct Publisher {
    wanted: watch::Sender<Shown>,
    attempts: watch::Receiver<Attempt>,
    task: JoinHandle<()>,
}

impl PeerPods {
    pub(crate) fn new(cluster: Cluster, journal: Journal, cloud_provider: &'static str) -> Self {
        Self {
            cluster,
            journal,
            cloud_provider,
            publishers: Arc::default(),
            released: Arc::default(),
        }
    }

    /// Makes the object of a VM about to be launched. Returns when it is there, or when it turned out that it cannot be now:
    /// then it follows.
    pub(crate) async fn announce(&self, plan: &Plan) {
        self.show(plan, Shown::Launching);
        let attempts = self
            .publishers()
            .get(&plan.sandbox)
            .map(|one| one.attempts.clone());
        if let Some(mut attempts) = attempts {
            let first = attempts.wait_for(|attempt| *attempt != Attempt::Awaited);
            // Whoever waits too long, or for a publisher that is gone, launches: the journal and the VM's tags say whose it is.
            let _ = timeout(ANNOUNCE_LIMIT, first).await;
        }
    }

    /// Has the object say this, at once or when the API server answers.
    pub(crate) fn show(&self, plan: &Plan, shown: Shown) {
        let mut publishers = self.publishers();
        if let Some(publisher) = publishers.get(&plan.sandbox) {
            publisher.wanted.send_replace(shown);
            return;
        }
        let (wanted, seen) = watch::channel(shown);
        let (report, attempts) = watch::channel(Attempt::Awaited);
        let object = object::Template::new(plan, self.cloud_provider);
        let work = publisher::publish(self.cluster.clone(), object, seen, report);
        let task = tokio::spawn(work.in_current_span());
        let publisher = Publisher {
            wanted,
            attempts,
            task,
        };
        publishers.insert(plan.sandbox.clone(), publisher);
    }

    /// Has the object say that its VM is being ended, where there is one.
    pub(crate) fn show_end(&self, plan: &Plan, instance: Option<&Instance>) {
        if let Some(publisher) = self.publishers().get(&plan.sandbox) {
            publisher.wanted.send_replace(Shown::Draining(instance.cloned()));
        }
    }

    /// Lets the object of a VM go that the provider confirmed to be gone; that it will is durable on return.
    ///
    /// # Errors
    /// The journal cannot be written; nothing is let go then.
    pub(crate) async fn release(&self, plan: &Plan) -> Result<(), JournalError> {
        let publisher = self.publishers().remove(&plan.sandbox);
        if let Some(publisher) = publisher {
            // Whatever it was doing has ended before the object is let go.
            publisher.task.abort();
            let _ = publisher.task.await;
        }
        self.journal.put_release(&ObjectKey::of(plan)).await?;
        self.released.notify_one();
        Ok(())
    }

    /// Lets go what the journal says is to be let go, now and from now on.
    pub(crate) async fn keep_releasing(&self) {
        loop {
            keeper::release_all(&self.cluster, &self.journal).await;
            self.released.notified().await;
        }
    }

    fn publishers(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Publisher>> {
        self.publishers
            .lock()
            .expect("nothing panics while it holds the publishers")
    }
}

#[cfg(test)]
mod tests;
