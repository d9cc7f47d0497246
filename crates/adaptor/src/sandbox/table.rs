//! All sandboxes of the node: made, found, replayed, ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use peerpods_provider::{InstanceId, LaunchToken, OwnedInstance};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::{
    Effects, Plan, Reason, SandboxId, State,
    driver::{self, Handle},
};
use crate::{
    journal::{Journal, JournalError},
    metrics::Metrics,
};

/// The first VNI that is given; below are those that people choose for other networks.
const FIRST_VNI: u32 = 555_000;
/// One more than the last: a node never has as many pods.
const LAST_VNI: u32 = FIRST_VNI + 100_000;

/// What the journal keeps of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    pub(crate) plan: Plan,
    pub(crate) state: State,
}

/// Why a sandbox cannot be made or started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("sandbox {0} is not known")]
    Unknown(SandboxId),
    #[error("sandbox {sandbox} exists already and is {state}")]
    Exists { sandbox: SandboxId, state: &'static str },
    #[error("all tunnel numbers of this node are in use")]
    NoVni,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0}")]
    NoVm(Reason),
}

/// By what a VM is found in the journal.
#[derive(Debug, Default)]
pub(crate) struct RecordedVms {
    /// Of launches whose instances may not be known.
    tokens: BTreeSet<LaunchToken>,
    instances: BTreeSet<InstanceId>,
}

impl RecordedVms {
    pub(crate) fn contains(&self, owned: &OwnedInstance) -> bool {
        self.tokens.contains(&owned.token) || self.instances.contains(&owned.instance.id)
    }
}

/// The node's sandboxes. A clone is the same table.
#[derive(Clone)]
pub(crate) struct Sandboxes {
    journal: Journal,
    effects: Arc<dyn Effects>,
    metrics: Arc<Metrics>,
    entries: Arc<Mutex<BTreeMap<SandboxId, Entry>>>,
}

enum Entry {
    /// Its plan is being made with this VNI; no record exists.
    Planned {
        vni: u32,
    },
    Driven(Handle),
}

/// A sandbox that is being planned: its id and VNI belong to it until it is dropped or becomes a sandbox.
pub(crate) struct Place<'a> {
    table: &'a Sandboxes,
    sandbox: SandboxId,
    pub(crate) vni: u32,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut entries = self.table.entries();
        if let Some(Entry::Planned { .. }) = entries.get(&self.sandbox) {
            entries.remove(&self.sandbox);
        }
    }
}

impl Sandboxes {
    pub(crate) fn new(journal: Journal, effects: Arc<dyn Effects>, metrics: Arc<Metrics>) -> Self {
        Self {
            journal,
            effects,
            metrics,
            entries: Arc::default(),
        }
    }

    /// Takes up all sandboxes of the journal where they were left.
    pub(crate) fn replay(&self) -> Result<(), JournalError> {
        for record in self.journal.read()?.sandboxes {
            record
                .plan
                .span()
                .in_scope(|| tracing::info!("taken up again: the VM is {}", record.state.name()));
            self.drive(record);
        }
        Ok(())
    }

    /// The sandbox's state, where it exists.
    pub(crate) fn state(&self, sandbox: &SandboxId) -> Option<State> {
        self.handle(sandbox).map(|handle| handle.state())
    }

    /// The states of all sandboxes, as they are now.
    pub(crate) fn states(&self) -> Vec<State> {
        let entries = self.entries();
        let driven = entries.values().filter_map(|entry| match entry {
            Entry::Driven(handle) => Some(handle.state()),
            Entry::Planned { .. } => None,
        });
        driven.collect()
    }

    /// Ids and plans of all sandboxes.
    pub(crate) fn plans(&self) -> Vec<Arc<Plan>> {
        let entries = self.entries();
        let driven = entries.values().filter_map(|entry| match entry {
            Entry::Driven(handle) => Some(handle.plan.clone()),
            Entry::Planned { .. } => None,
        });
        driven.collect()
    }

    /// All VMs that the journal knows of: sandboxes' and those that wait for one.
    pub(crate) fn recorded(&self) -> Result<RecordedVms, JournalError> {
        let contents = self.journal.read()?;
        let mut recorded = RecordedVms::default();
        for (token, instance) in contents.sandboxes.iter().filter_map(|record| record.state.vm()) {
            recorded.tokens.insert(token.clone());
            recorded
                .instances
                .extend(instance.map(|instance| instance.id.clone()));
        }
        for member in contents.warm {
            match member.instance() {
                Some(instance) => recorded.instances.insert(instance.id.clone()),
                None => recorded.tokens.insert(member.token),
            };
        }
        Ok(recorded)
    }

    /// The sandbox's plan, where it exists.
    pub(crate) fn plan(&self, sandbox: &SandboxId) -> Option<Arc<Plan>> {
        self.handle(sandbox).map(|handle| handle.plan)
    }

    /// Takes id and VNI for a sandbox about to be planned.
    pub(crate) fn place(&self, sandbox: &SandboxId) -> Result<Place<'_>, TableError> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(sandbox) {
            let state = match entry {
                Entry::Planned { .. } => "being made",
                Entry::Driven(handle) => handle.state().name(),
            };
            return Err(TableError::Exists {
                sandbox: sandbox.clone(),
                state,
            });
        }
        let used: Vec<u32> = entries
            .values()
            .map(|entry| match entry {
                Entry::Planned { vni } => *vni,
                Entry::Driven(handle) => handle.plan.network.vxlan_id,
            })
            .collect();
        let vni = (FIRST_VNI..LAST_VNI)
            .find(|vni| !used.contains(vni))
            .ok_or(TableError::NoVni)?;
        entries.insert(sandbox.clone(), Entry::Planned { vni });
        Ok(Place {
            table: self,
            sandbox: sandbox.clone(),
            vni,
        })
    }

    /// Makes the sandbox; it is durable on return, and nothing is launched.
    pub(crate) async fn create(&self, place: Place<'_>, record: Record) -> Result<(), TableError> {
        self.journal.put(&record).await?;
        self.drive(record);
        drop(place);
        Ok(())
    }

    /// Launches the VM of a sandbox, and waits until shims can connect to it.
    pub(crate) async fn start(&self, sandbox: &SandboxId) -> Result<(), TableError> {
        let handle = self
            .handle(sandbox)
            .ok_or_else(|| TableError::Unknown(sandbox.clone()))?;
        handle.start().await.map_err(TableError::NoVm)
    }

    /// Ends a sandbox; its end is durable on return. One that is not known is gone already.
    pub(crate) async fn stop(&self, sandbox: &SandboxId, reason: Reason) {
        if let Some(handle) = self.handle(sandbox) {
            handle.stop(reason).await;
        }
    }

    /// Waits until nothing is left of a sandbox.
    pub(crate) async fn gone(&self, sandbox: &SandboxId) {
        if let Some(handle) = self.handle(sandbox) {
            handle.gone().await;
        }
    }

    fn drive(&self, record: Record) {
        let (sandbox, span) = (record.plan.sandbox.clone(), record.plan.span());
        let mut entries = self.entries();
        let (handle, task) = driver::drive(
            record,
            self.journal.clone(),
            self.effects.clone(),
            self.metrics.clone(),
        );
        entries.insert(sandbox.clone(), Entry::Driven(handle));
        drop(entries);
        let table = self.clone();
        let end = async move {
            if let Err(error) = task.await {
                // The record stays in the journal: the next start of the adaptor takes the sandbox up again.
                tracing::error!(%error, "the sandbox's driver panicked");
            }
            table.entries().remove(&sandbox);
        };
        tokio::spawn(end.instrument(span));
    }

    fn handle(&self, sandbox: &SandboxId) -> Option<Handle> {
        match self.entries().get(sandbox) {
            Some(Entry::Driven(handle)) => Some(handle.clone()),
            Some(Entry::Planned { .. }) | None => None,
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Entry>> {
        self.entries
            .lock()
            .expect("nothing panics while it holds the table")
    }
}
