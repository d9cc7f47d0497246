//! The members that wait, and how a sandbox takes one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use peerpods_proto::payload::ScratchEncryption;
use peerpods_provider::{LaunchToken, Provider, Shape};
use tokio::{sync::Notify, task::JoinHandle};

use super::{Member, WarmVm};
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
    members: Arc<Mutex<BTreeMap<LaunchToken, Entry>>>,
    /// A member was taken, or is of no use any more.
    pub(super) changed: Arc<Notify>,
}

struct Entry {
    member: Member,
    use_: Use,
    /// Watches that the VM lives, and keeps its lease.
    _watch: Watch,
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
        let (token, warm) = members.iter().find_map(|(token, entry)| match entry.use_ {
            Use::Any if entry.member.kind == kind => Some((token.clone(), entry.member.warm_vm()?)),
            Use::Any | Use::None(_) => None,
        })?;
        members.remove(&token);
        self.changed.notify_one();
        Some(warm)
    }

    /// How many VMs of the pool there are, whether of use or not.
    pub(crate) fn count(&self) -> usize {
        self.members().len()
    }

    /// Adds a member that waits, with the task that watches it.
    pub(super) fn add(&self, member: Member, watch: impl Future<Output = ()> + Send + 'static) {
        let token = member.token.clone();
        let mut members = self.members();
        let entry = Entry {
            member,
            use_: Use::Any,
            _watch: Watch(tokio::spawn(watch)),
        };
        members.insert(token, entry);
    }

    /// Nobody can take the member from now on. One that was taken before is not the pool's to dismiss.
    pub(super) fn dismiss(&self, token: &LaunchToken, reason: String) {
        if let Some(entry) = self.members().get_mut(token) {
            entry.use_ = Use::None(reason);
            self.changed.notify_one();
        }
    }

    /// A member that is to be ended, out of the pool, and why.
    pub(super) fn next_dismissed(&self) -> Option<(Member, String)> {
        let mut members = self.members();
        let token = members.iter().find_map(|(token, entry)| match entry.use_ {
            Use::None(_) => Some(token.clone()),
            Use::Any => None,
        })?;
        match members.remove(&token)? {
            Entry {
                member,
                use_: Use::None(reason),
                ..
            } => Some((member, reason)),
            Entry { use_: Use::Any, .. } => None,
        }
    }

    /// Members of another kind than VMs are now.
    pub(super) fn outdated(&self) -> Vec<LaunchToken> {
        let Ok(kind) = self.provider.kind(&Shape::default()) else {
            return Vec::new();
        };
        let members = self.members();
        let other = members.iter().filter(|(_, entry)| entry.member.kind != kind);
        other.map(|(token, _)| token.clone()).collect()
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<LaunchToken, Entry>> {
        self.members
            .lock()
            .expect("nothing panics while it holds the members")
    }
}
