//! The one task that owns a sandbox's state: journals it, then does what it asks for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::Instrument;

use super::{
    Effects, Plan, Reason, Record, State,
    state::{Effect, Event, step},
};
use crate::{journal::Journal, metrics::Metrics, warm::Turn};

/// Requests and answers that wait for their turn; a sandbox sees a handful in its whole life.
const QUEUE: usize = 16;
/// A journal that cannot be written (a full disk) is tried again this often: nothing is done meanwhile.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// What others see of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Its state, durable.
    pub(super) state: State,
    /// Whether shims can connect: set once after the state became ready in this process.
    pub(super) access: Access,
}

/// Whether shims can connect to a VM that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Closed,
    Open,
}

/// A sandbox's mailbox and view.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) plan: Arc<Plan>,
    requests: mpsc::Sender<Event>,
    view: watch::Receiver<View>,
}

impl Handle {
    /// Asks for the VM, and waits until shims can connect to it.
    pub(super) async fn start(&self) -> Result<(), Reason> {
        // A driver that has ended leaves its last view.
        let _ = self.requests.send(Event::Start).await;
        let mut view = self.view.clone();
        loop {
            let now = view.borrow_and_update().clone();
            match (now.state, now.access) {
                (State::Ready { .. }, Access::Open) => return Ok(()),
                (State::Draining { reason, .. } | State::Gone { reason }, _) => return Err(reason),
                (
                    State::Reserved { .. }
                    | State::Queued { .. }
                    | State::Claiming { .. }
                    | State::Discarding { .. }
                    | State::Launching { .. }
                    | State::Booting { .. }
                    | State::Ready { .. },
                    _,
                ) => {}
            }
            if view.changed().await.is_err() {
                return Err(Reason::Requested);
            }
        }
    }

    /// Asks for the VM's end; returns when that is durable.
    pub(super) async fn stop(&self, reason: Reason) {
        let _ = self.requests.send(Event::Stop(reason)).await;
        let ending = |view: &View| matches!(view.state, State::Draining { .. } | State::Gone { .. });
        // An error means that the driver has ended, which it does only when the VM is gone.
        let _ = self.view.clone().wait_for(ending).await;
    }

    /// Waits until nothing is left.
    pub(super) async fn gone(&self) {
        let _ = self
            .view
            .clone()
            .wait_for(|view| matches!(view.state, State::Gone { .. }))
            .await;
    }

    pub(super) fn state(&self) -> State {
        self.view.borrow().state.clone()
    }
}

/// Starts the driver of a sandbox whose record is in the journal. It ends when the sandbox is gone and its record is
/// removed.
pub(super) fn drive(
    record: Record,
    journal: Journal,
    effects: Arc<dyn Effects>,
    metrics: Arc<Metrics>,
) -> (Handle, JoinHandle<()>) {
    let plan = Arc::new(record.plan);
    let (requests, mailbox) = mpsc::channel(QUEUE);
    let (view, seen) = watch::channel(View {
        state: record.state,
        access: Access::Closed,
    });
    let (reports, reported) = mpsc::channel(1);
    let driver = Driver {
        plan: plan.clone(),
        journal,
        effects,
        view,
        reports,
        under_way: None,
        stopwatch: Stopwatch::new(metrics),
    };
    let task = tokio::spawn(driver.run(mailbox, reported).instrument(plan.span()));
    (
        Handle {
            plan,
            requests,
            view: seen,
        },
        task,
    )
}

struct Driver {
    plan: Arc<Plan>,
    journal: Journal,
    effects: Arc<dyn Effects>,
    view: watch::Sender<View>,
    reports: mpsc::Sender<Report>,
    under_way: Option<JoinHandle<()>>,
    stopwatch: Stopwatch,
}

/// Measures a sandbox's states as it goes through them.
struct Stopwatch {
    metrics: Arc<Metrics>,
    /// When the state that is now began, as far as this process knows.
    since: Instant,
    /// When the shim wanted the VM, where this process was there.
    wanted: Option<Instant>,
}

impl Stopwatch {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            since: Instant::now(),
            wanted: None,
        }
    }

    fn changed(&mut self, before: &State, now: &State) {
        let at = Instant::now();
        self.metrics.left(before, at - self.since);
        self.since = at;
        match now {
            State::Queued { .. } | State::Claiming { .. } | State::Launching { .. } => {
                self.wanted = self.wanted.or(Some(at));
            }
            State::Ready { .. } => {
                if let Some(wanted) = self.wanted {
                    self.metrics.started(at - wanted);
                }
            }
            State::Draining { reason, .. } => self.metrics.ended(reason),
            State::Reserved { .. }
            | State::Discarding { .. }
            | State::Booting { .. }
            | State::Gone { .. } => {}
        }
    }
}

/// What an effect under way says.
enum Report {
    /// It is at its end.
    Done(Event),
    /// Shims can connect now.
    Reachable,
}

impl Driver {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Event>, mut reported: mpsc::Receiver<Report>) {
        self.happen(Event::Replayed, &mut reported).await;
        while !matches!(self.view.borrow().state, State::Gone { .. }) {
            tokio::select! {
                Some(report) = reported.recv() => match report {
                    Report::Done(event) => {
                        let event = self.with_what_waits(event);
                        self.happen(event, &mut reported).await;
                    }
                    Report::Reachable => self.view.send_modify(|view| view.access = Access::Open),
                },
                Some(event) = mailbox.recv() => {
                    let event = self.with_what_waits(event);
                    self.happen(event, &mut reported).await;
                }
            }
        }
    }

    /// A start, or its turn, finds out whether a VM waits for such a pod: the last moment at which none is taken in vain.
    fn with_what_waits(&self, event: Event) -> Event {
        match (&self.view.borrow().state, event) {
            (State::Reserved { .. }, Event::Start) => match self.effects.take_warm(&self.plan) {
                Some(warm) => Event::StartWith(warm),
                None if self.effects.is_crowded() => Event::StartQueued,
                None => Event::Start,
            },
            (State::Queued { .. }, Event::Offered) => {
                let warm = self.effects.take_warm(&self.plan);
                warm.map_or(Event::Offered, Event::StartWith)
            }
            (_, event) => event,
        }
    }

    async fn happen(&mut self, event: Event, reported: &mut mpsc::Receiver<Report>) {
        let before = self.view.borrow().state.clone();
        let (state, effect) = step(before.clone(), event);
        if state != before {
            self.record(&state).await;
            self.stopwatch.changed(&before, &state);
            tracing::info!("the VM is {}", state.name());
            self.view.send_replace(View {
                state,
                access: Access::Closed,
            });
        }
        if let Some(effect) = effect {
            self.end_what_is_under_way(reported).await;
            self.begin(effect);
        }
    }

    /// Returns only when the state is durable: nothing may be done before.
    async fn record(&self, state: &State) {
        loop {
            let written = match state {
                State::Gone { .. } => self.journal.remove(&self.plan.sandbox).await,
                _ => {
                    self.journal
                        .put(&Record {
                            plan: self.plan.as_ref().clone(),
                            state: state.clone(),
                        })
                        .await
                }
            };
            match written {
                Ok(()) => return,
                Err(error) => tracing::error!(
                    error = peerpods_error::chain(&error),
                    "the journal cannot be written; trying again"
                ),
            }
            tokio::time::sleep(JOURNAL_PAUSE).await;
        }
    }

    /// One thing at a time: what is given up has truly ended before the next begins, and is not heard of any more.
    async fn end_what_is_under_way(&mut self, reported: &mut mpsc::Receiver<Report>) {
        if let Some(task) = self.under_way.take() {
            task.abort();
            let _ = task.await;
            while reported.try_recv().is_ok() {}
        }
    }

    fn begin(&mut self, effect: Effect) {
        let (plan, effects, reports) = (self.plan.clone(), self.effects.clone(), self.reports.clone());
        let work = async move {
            let event = perform(&plan, effects.as_ref(), &reports, effect).await;
            // The driver is gone only when the process ends.
            let _ = reports.send(Report::Done(event)).await;
        };
        self.under_way = Some(tokio::spawn(work.in_current_span()));
    }
}

async fn perform(
    plan: &Plan,
    effects: &dyn Effects,
    reports: &mpsc::Sender<Report>,
    effect: Effect,
) -> Event {
    match effect {
        Effect::Queue => match effects.queue(plan).await {
            Ok(Turn::Take) => Event::Offered,
            Ok(Turn::Launch) => Event::Alone,
            Err(reason) => Event::Failed(reason),
        },
        Effect::Claim(warm) => match effects.claim(plan, &warm).await {
            Ok(()) => Event::Claimed(warm.instance),
            Err(cause) => {
                tracing::warn!(instance = %warm.instance.id, cause, "a warm VM is not to be had");
                Event::Unclaimed(warm.instance)
            }
        },
        Effect::Discard(warm) => {
            effects.discard(plan, &warm).await;
            Event::Discarded(warm.instance)
        }
        Effect::Launch(token) => effects
            .launch(plan, &token)
            .await
            .map_or_else(Event::Failed, Event::Launched),
        Effect::Join(instance) => match effects.join(plan, &instance).await {
            Ok(server_key) => Event::Joined { instance, server_key },
            Err(reason) => Event::Failed(reason),
        },
        Effect::Serve(instance, server_key) => {
            let reports = reports.clone();
            let reachable = Box::new(move || {
                tokio::spawn(async move { reports.send(Report::Reachable).await });
            });
            Event::Failed(effects.serve(plan, &instance, server_key, reachable).await)
        }
        Effect::Drain(token, instance) => {
            effects.drain(plan, &token, instance.as_ref()).await;
            Event::Ended(instance)
        }
    }
}

#[cfg(test)]
mod tests;
