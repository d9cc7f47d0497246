//! What this process knows of its launches, beside what EC2 shows of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerpods_provider::{Instance, InstanceId, LaunchToken, OwnedInstance, Owner, OwnerScope};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use crate::Timing;

/// How many tokens are remembered; those of instances that live for long are forgotten first, since EC2 shows them.
const REMEMBERED: usize = 1024;

/// How far the launch of one token has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// This process has not used it; one before it may have.
    Unseen,
    /// EC2 was asked to launch the candidate of this number, and what it did is not known.
    Doubtful { candidate: usize, asked: Instant },
    /// EC2 refused: there is no instance.
    Absent,
    /// There are these instances, whether EC2 shows them yet or not: one, or a batch.
    Launched {
        instances: Vec<Instance>,
        owner: Owner,
        launched: Instant,
    },
}

/// Launches by token. Who holds a token's lock is the only one who launches for it.
#[derive(Debug)]
pub(crate) struct Launches {
    timing: Timing,
    started: Instant,
    tokens: Mutex<BTreeMap<LaunchToken, Arc<AsyncMutex<Progress>>>>,
}

impl Launches {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            started: Instant::now(),
            tokens: Mutex::default(),
        }
    }

    /// The token's progress, once nobody else works on it.
    pub(crate) async fn of(&self, token: &LaunchToken) -> OwnedMutexGuard<Progress> {
        let progress = {
            let mut tokens = self.tokens();
            if tokens.len() >= REMEMBERED {
                tokens.retain(|_, progress| Arc::strong_count(progress) > 1 || !self.is_settled(progress));
            }
            let unseen = || Arc::new(AsyncMutex::new(Progress::Unseen));
            tokens.entry(token.clone()).or_insert_with(unseen).clone()
        };
        progress.lock_owned().await
    }

    /// From when on EC2's silence about a token counts, after [`Timing::visibility`].
    pub(crate) fn last_asked(&self, progress: &Progress) -> Instant {
        match progress {
            Progress::Unseen | Progress::Absent => self.started,
            Progress::Doubtful { asked, .. } => *asked,
            Progress::Launched { launched, .. } => *launched,
        }
    }

    /// The same for an instance.
    pub(crate) fn launched(&self, id: &InstanceId) -> Instant {
        let of_this_process = self
            .remembered()
            .into_iter()
            .find(|found| found.owned.instance.id == *id);
        of_this_process.map_or(self.started, |found| found.launched)
    }

    /// Whether EC2 shows by now what it made at `asked`.
    fn is_visible(&self, asked: Instant) -> bool {
        self.was_visible(asked, Instant::now())
    }

    /// Whether EC2 showed it when it was looked for: before the look began, since an answer may be long on its way.
    pub(crate) fn was_visible(&self, asked: Instant, looked: Instant) -> bool {
        looked.saturating_duration_since(asked) >= self.timing.visibility
    }

    /// Instances of this scope that were launched so lately that EC2 may not show them.
    pub(crate) fn invisible(&self, scope: &OwnerScope) -> Vec<OwnedInstance> {
        let all = self.remembered().into_iter();
        all.filter(|found| !self.is_visible(found.launched) && scope.contains(&found.owned.owner))
            .map(|found| found.owned)
            .collect()
    }

    /// The instance has ended.
    pub(crate) fn forget(&self, id: &InstanceId) {
        self.tokens().retain(|_, progress| {
            let Ok(mut progress) = progress.try_lock() else {
                return true;
            };
            let Progress::Launched { instances, .. } = &mut *progress else {
                return true;
            };
            instances.retain(|instance| instance.id != *id);
            !instances.is_empty()
        });
    }

    fn is_settled(&self, progress: &AsyncMutex<Progress>) -> bool {
        progress
            .try_lock()
            .is_ok_and(|progress| self.is_visible(self.last_asked(&progress)))
    }

    fn remembered(&self) -> Vec<Remembered> {
        let tokens = self.tokens();
        let mut found = Vec::new();
        for (token, progress) in tokens.iter() {
            let Ok(progress) = progress.try_lock() else {
                continue;
            };
            let Progress::Launched {
                instances,
                owner,
                launched,
            } = &*progress
            else {
                continue;
            };
            found.extend(instances.iter().map(|instance| Remembered {
                owned: OwnedInstance {
                    instance: instance.clone(),
                    token: token.clone(),
                    owner: owner.clone(),
                },
                launched: *launched,
            }));
        }
        found
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<LaunchToken, Arc<AsyncMutex<Progress>>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance that this process launched.
struct Remembered {
    owned: OwnedInstance,
    launched: Instant,
}
