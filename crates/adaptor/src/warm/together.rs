//! VMs that are launched together, for pods that start together.
//!
//! EC2 allows few launches, and each may be of many VMs. A pod that comes alone launches its own VM, at once. Where more come
//! than [`Departures`] lets go alone, they queue; when the next departure is due, all that want the same kind of VM leave with
//! one call. Their VMs have no identity, as those that wait for whoever comes, and each pod takes one as its guest answers.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use peerpods_error::chain;
use peerpods_provider::{Instance, InstanceKind, Shape};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use super::{Member, Pool, keeper::unrecorded, member::MemberState, pool::Kept};
use crate::{launch::launch_within, sandbox::Reason};

/// So many departures at once: what EC2 allows an account, less some for other nodes.
const DEPARTURES_AT_ONCE: f64 = 3.0;
/// And one more each time this has passed: half of what EC2 allows.
const DEPARTURE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a VM waits for the pod that it was launched for; that takes it in milliseconds, or has ended.
const UNTAKEN_LIMIT: Duration = Duration::from_secs(10);

/// What a pod that queued is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Take a VM: one waits.
    Take,
    /// Launch a VM of its own: nobody else waits for one like it.
    Launch,
}

/// The pods that wait for a departure.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    came: Notify,
}

#[derive(Default)]
struct QueueState {
    departures: Departures,
    waiting: VecDeque<Waiter>,
}

/// A pod that waits; gone where nobody hears the answer.
struct Waiter {
    kind: InstanceKind,
    shape: Shape,
    answer: oneshot::Sender<Result<Turn, Reason>>,
}

impl Waiter {
    fn tell(self, turn: Result<Turn, Reason>) {
        // A pod that is not wanted any more does not listen, and what was meant for it waits for another.
        let _ = self.answer.send(turn);
    }
}

/// When the next launch may begin.
#[derive(Debug, Default)]
struct Departures {
    /// How many have left that are not made up for by the time that has passed.
    ahead: f64,
    counted: Option<Instant>,
}

impl Departures {
    /// How long until the next.
    fn wait(&mut self, now: Instant) -> Duration {
        let passed = self.counted.map_or(Duration::ZERO, |counted| now - counted);
        self.counted = Some(now);
        self.ahead = (self.ahead - passed.as_secs_f64() / DEPARTURE_INTERVAL.as_secs_f64()).max(0.0);
        DEPARTURE_INTERVAL.mul_f64((self.ahead + 1.0 - DEPARTURES_AT_ONCE).max(0.0))
    }

    fn leave(&mut self) {
        self.ahead += 1.0;
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state
            .lock()
            .expect("nothing panics while it holds the queue")
    }
}

impl Pool {
    /// Whether a pod that wants a VM now is to queue for it. One that is not launches its own.
    pub(crate) fn is_crowded(&self) -> bool {
        if self.provider.batch_limit() == 1 {
            return false;
        }
        let mut state = self.queue.state();
        if !state.waiting.is_empty() || !state.departures.wait(Instant::now()).is_zero() {
            return true;
        }
        state.departures.leave();
        false
    }

    /// Waits until there is something to be done for a pod of this shape.
    pub(crate) async fn queue(&self, shape: &Shape) -> Result<Turn, Reason> {
        let kind = self.provider.kind(shape);
        let kind = kind.map_err(|error| Reason::Refused(chain(&error)))?;
        let (answer, turn) = oneshot::channel();
        self.queue.state().waiting.push_back(Waiter {
            kind,
            shape: shape.clone(),
            answer,
        });
        self.queue.came.notify_one();
        // Without an answer nobody keeps the queue, and everybody is alone.
        turn.await.unwrap_or(Ok(Turn::Launch))
    }

    /// Lets pods leave the queue, one group at a time, as long as this process lives.
    pub(crate) async fn keep_departing(self) {
        loop {
            let wait = {
                let mut state = self.queue.state();
                state.waiting.retain(|waiter| !waiter.answer.is_closed());
                let wait = state.departures.wait(Instant::now());
                (!state.waiting.is_empty()).then_some(wait)
            };
            match wait {
                None => self.queue.came.notified().await,
                Some(wait) if !wait.is_zero() => sleep(wait).await,
                Some(_) => self.depart(),
            }
        }
    }

    fn depart(&self) {
        let mut group = self.next_group();
        match (group.pop(), group.is_empty()) {
            (None, _) => {}
            (Some(alone), true) => alone.tell(Ok(Turn::Launch)),
            (Some(last), false) => {
                group.push(last);
                let pool = self.clone();
                tokio::spawn(async move { pool.launch_together(group).await });
            }
        }
    }

    /// Those that want what the first one wants, as many as leave at once.
    fn next_group(&self) -> Vec<Waiter> {
        let limit = self.provider.batch_limit();
        let mut state = self.queue.state();
        state.departures.leave();
        let mut group: Vec<Waiter> = Vec::new();
        let mut others = VecDeque::new();
        for waiter in std::mem::take(&mut state.waiting) {
            let fits = group.first().is_none_or(|first| first.kind == waiter.kind);
            if fits && group.len() < limit {
                group.push(waiter);
            } else {
                others.push_back(waiter);
            }
        }
        state.waiting = others;
        group
    }

    /// Launches a VM for each, with one call. Whoever gets none because there was room for fewer waits on.
    async fn launch_together(&self, group: Vec<Waiter>) {
        let (launching, instances) = match self.launch_batch(&group).await {
            Ok(launched) => launched,
            Err(reason) => {
                for waiter in group {
                    waiter.tell(Err(reason.clone()));
                }
                return;
            }
        };
        tracing::info!(
            wanted = group.len(),
            launched = instances.len(),
            "VMs were launched together"
        );
        let mut group = VecDeque::from(group);
        for instance in instances {
            let waiter = group.pop_front();
            let (pool, launching) = (self.clone(), launching.clone());
            tokio::spawn(async move { pool.bring_up_for(waiter, launching, instance).await });
        }
        let mut state = self.queue.state();
        for waiter in group.into_iter().rev() {
            state.waiting.push_front(waiter);
        }
        self.queue.came.notify_one();
    }

    /// The launch and its instances, each with its record; a failure leaves nothing.
    async fn launch_batch(&self, group: &[Waiter]) -> Result<(Member, Vec<Instance>), Reason> {
        let shape = group.first().map(|first| first.shape.clone()).unwrap_or_default();
        let launching = self.new_member(&shape)?;
        let request = self.request(&launching, shape)?;
        self.journal.put_warm(&launching).await.map_err(unrecorded)?;
        let launched = async {
            let call = || self.provider.launch_together(&request, group.len());
            let instances = launch_within(&self.settings.limits, call).await?;
            let members: Vec<Member> = instances
                .iter()
                .map(|instance| launching.booting(instance.clone()))
                .collect();
            let recorded = self.journal.replace_warm(&launching, &members).await;
            recorded.map_err(unrecorded)?;
            Ok(instances)
        };
        match launched.await {
            Ok(instances) => Ok((launching, instances)),
            Err(reason) => {
                let pool = self.clone();
                tokio::spawn(async move { pool.end(&launching).await });
                Err(reason)
            }
        }
    }

    /// Waits for an instance's guest, and tells the pod that it may take one.
    async fn bring_up_for(&self, waiter: Option<Waiter>, launching: Member, instance: Instance) {
        let met = self.meet(&launching, instance.clone()).await;
        let turn = match met {
            Ok(waiting) => {
                let until = Instant::now() + UNTAKEN_LIMIT;
                self.admit(waiting, Kept::ForQueue { until });
                Ok(Turn::Take)
            }
            Err(reason) => {
                let (pool, booting) = (self.clone(), launching.booting(instance));
                tokio::spawn(async move { pool.end(&booting).await });
                Err(reason)
            }
        };
        if let Some(waiter) = waiter {
            waiter.tell(turn);
        }
    }
}

impl Member {
    fn booting(&self, instance: Instance) -> Self {
        Self {
            state: MemberState::Booting { instance },
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_leave_at_once_and_then_one_after_the_other() {
        let mut departures = Departures::default();
        let begin = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(departures.wait(begin).as_secs());
            departures.leave();
        }
        assert_eq!(waits, [0, 0, 0, 1, 2]);
        assert_eq!(departures.wait(begin + Duration::from_secs(3)).as_secs(), 0);
        assert_eq!(departures.wait(begin + Duration::from_secs(60)), Duration::ZERO);
    }
}
