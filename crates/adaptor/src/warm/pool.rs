//! The members that wait, and how a sandbox takes one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use peerpods_proto::payload::ScratchEncryption;
use peerpods_provider::{InstanceId, Provider, Shape};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{Member, WarmVm, together::Queue};
use crate::{journal::Journal, sandbox::Limits};

/// How many VMs to keep, and what they are told.
#[derive(Clone, Debug)]
pub(crate) struct PoolSettings {
    /// How many VMs wait.
    pub(crate) size: usize,
    pub(crate) cluster: String,
    pub(crate) node: String,
    /// How long one lives without a word from this node.
    pub(crate) lease: Duration,
    pub(crate) scratch_encryption: ScratchEncryption,
    pub(crate) agent_port: u16,
    pub(crate) limits: Limits,
}

/// The node's pool. A clone is the same pool.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) journal: Journal,
    pub(super) settings: Arc<PoolSettings>,
    members: Arc<Mutex<BTreeMap<InstanceId, Entry>>>,
    /// A member was taken, or is of no use any more.
    pub(super) changed: Arc<Notify>,
    pub(super) queue: Arc<Queue>,
}

struct Entry {
    member: Member,
    use_: Use,
    kept: Kept,
    /// Watches that the VM lives, and keeps its lease.
    _watch: Watch,
}

/// For whom a member waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// For whoever comes.
    Spare,
    /// For the pods that it was launched for together with others, until then.
    ForQueue { until: Instant },
}

/// What a member is good for.
enum Use {
    Any,
    /// For nothing: it is to be ended.
    None(String),
}

/// A task that ends with its owner.
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pool {
    /// A pool without members; [`super::keep`] fills it.
    pub(crate) fn new(provider: Arc<dyn Provider>, journal: Journal, settings: PoolSettings) -> Self {
        Self {
            provider,
            journal,
            settings: Arc::new(settings),
            members: Arc::default(),
            changed: Arc::default(),
            queue: Arc::default(),
        }
    }

    /// Takes a member that is what a VM of `shape` would be: it is the caller's from now on, who records that. Until then
    /// the journal has it in the pool.
    pub(crate) fn take(&self, shape: &Shape) -> Option<WarmVm> {
        let mut members = self.members();
        if members.is_empty() {
            return None;
        }
        // What has no kind is refused with its reason where it is launched.
        let kind = self.provider.kind(shape).ok()?;
        let warm = members.values().find_map(|entry| match entry.use_ {
            Use::Any if entry.member.kind == kind => entry.member.warm_vm(),
            Use::Any | Use::None(_) => None,
        })?;
        members.remove(&warm.instance.id);
        self.changed.notify_one();
        Some(warm)
    }

    /// How many VMs of the pool there are, whether of use or not.
    pub(crate) fn count(&self) -> usize {
        self.members().len()
    }

    /// How many of them are kept for whoever comes.
    pub(super) fn spares(&self) -> usize {
        let members = self.members();
        members.values().filter(|entry| entry.kept == Kept::Spare).count()
    }

    /// Adds a member that waits, with the task that watches it.
    pub(super) fn add(
        &self,
        id: InstanceId,
        member: Member,
        kept: Kept,
        watch: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut members = self.members();
        let entry = Entry {
            member,
            use_: Use::Any,
            kept,
            _watch: Watch(tokio::spawn(watch)),
        };
        members.insert(id, entry);
    }

    /// Nobody can take the member from now on. One that was taken before is not the pool's to dismiss.
    pub(super) fn dismiss(&self, id: &InstanceId, reason: &str) {
        if let Some(entry) = self.members().get_mut(id) {
            entry.use_ = Use::None(reason.to_owned());
            self.changed.notify_one();
        }
    }

    /// A member that is to be ended, out of the pool, and why.
    pub(super) fn next_dismissed(&self) -> Option<(Member, String)> {
        let mut members = self.members();
        let id = members.iter().find_map(|(id, entry)| match entry.use_ {
            Use::None(_) => Some(id.clone()),
            Use::Any => None,
        })?;
        match members.remove(&id)? {
            Entry {
                member,
                use_: Use::None(reason),
                ..
            } => Some((member, reason)),
            Entry { use_: Use::Any, .. } => None,
        }
    }

    /// Members that nobody is to take any more, and why: of another kind than VMs are now, or launched for pods that did
    /// not come for them.
    pub(super) fn useless(&self) -> Vec<(InstanceId, &'static str)> {
        let current = self.provider.kind(&Shape::default());
        let now = Instant::now();
        let members = self.members();
        let useless = members.iter().filter_map(|(id, entry)| {
            let why = match (entry.kept, &current) {
                (Kept::Spare, Ok(kind)) if entry.member.kind != *kind => "VMs are of another kind now",
                (Kept::ForQueue { until }, _) if now >= until => "no pod came for it",
                (Kept::Spare | Kept::ForQueue { .. }, _) => return None,
            };
            Some((id.clone(), why))
        });
        useless.collect()
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Entry>> {
        self.members
            .lock()
            .expect("nothing panics while it holds the members")
    }
}
