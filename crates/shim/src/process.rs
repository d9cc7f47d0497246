//! A process in the guest, from its creation to its exit.
//!
//! ```text
//! Created ─► Starting ─► Running ⇄ Paused
//!    └──────────┴───────────┴────────┴──► Exited
//! ```
//!
//! From its start on, one task owns the process: it carries the streams, waits for the exit, and is the
//! only one to report it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    agent::{Agent, ProcessId, is_connection_loss},
    error::Error,
    sandbox::{Liveness, gone},
    streams::{Input, Opened, StandardStreams, Wish},
};

/// Exit status of a process whose end nobody saw.
const UNKNOWN_STATUS: u32 = 255;
/// How long a lost connection may wait for its reason.
const REASON_TIME: Duration = Duration::from_millis(500);
/// How long a guest may take to tell the end of a process that was killed: a runtime waits two minutes for it. A guest that
/// never tells must not keep the pod.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// Exit status of a process that was killed, or went down with its machine.
pub(crate) const KILLED_STATUS: u32 = 137;

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Exit {
    pub(crate) fn now(status: u32) -> Self {
        Self {
            status,
            at: SystemTime::now(),
        }
    }
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Starting,
    Running,
    Paused,
    Exited(Exit),
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created but not started",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited(_) => "stopped",
        }
    }
}

/// How a process was seen to end.
pub(crate) enum Ending {
    /// It ended.
    Exit(Exit),
    /// Its machine was lost, for this reason.
    Lost(String),
}

/// What starts the process.
pub(crate) enum Launch {
    /// It is the container's first process.
    Container,
    /// It joins a running container.
    Exec(Box<peerpods_proto::oci::Process>),
}

/// A process, shared by all requests about it.
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) streams: StandardStreams,
    launch: Launch,
    state: watch::Sender<State>,
    input: watch::Sender<Input>,
    wish: watch::Sender<Wish>,
}

impl Process {
    pub(crate) fn new(id: ProcessId, streams: StandardStreams, launch: Launch) -> Self {
        Self {
            id,
            streams,
            launch,
            state: watch::Sender::new(State::Created),
            input: watch::Sender::new(Input::Open),
            wish: watch::Sender::new(Wish::Live),
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Moves on if the present state allows it.
    fn step(&self, action: &'static str, allowed: fn(State) -> bool, next: State) -> Result<(), Error> {
        let mut refused = None;
        self.state.send_if_modified(|state| {
            if allowed(*state) {
                *state = next;
                true
            } else {
                refused = Some(state.name());
                false
            }
        });
        match refused {
            None => Ok(()),
            Some(state) => Err(Error::WrongState {
                action,
                id: self.id.to_string(),
                state,
            }),
        }
    }

    /// Starts the process in the guest. `announce` runs before anything of its life can be seen, so that
    /// the event of its start precedes that of its exit; `report` runs at its end, before its exit can be seen.
    pub(crate) async fn start<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        agent: &Agent,
        liveness: watch::Receiver<Liveness>,
        announce: impl FnOnce(),
        report: impl FnOnce(Ending) -> F + Send + 'static,
    ) -> Result<(), Error> {
        self.step("start", |state| state == State::Created, State::Starting)?;
        let launched = match self.streams.open() {
            Ok(opened) => self.launch(agent).await.map(|()| opened),
            Err(error) => Err(error),
        };
        let opened = match launched {
            Ok(opened) => opened,
            Err(error) => {
                // It can be deleted, but not be started again.
                self.exit(Exit::now(UNKNOWN_STATUS));
                return Err(error);
            }
        };
        self.step("start", |state| state == State::Starting, State::Running)?;
        announce();
        tokio::spawn(self.clone().live(agent.clone(), liveness, opened, report));
        Ok(())
    }

    async fn launch(&self, agent: &Agent) -> Result<(), Error> {
        match &self.launch {
            Launch::Container => agent.start_container(&self.id.container).await,
            Launch::Exec(process) => agent.exec(&self.id, process.as_ref().clone()).await,
        }
    }

    /// The task that owns a running process.
    async fn live<F: Future<Output = ()> + Send>(
        self: Arc<Self>,
        agent: Agent,
        mut liveness: watch::Receiver<Liveness>,
        opened: Opened,
        report: impl FnOnce(Ending) -> F + Send,
    ) {
        let wish = self.wish.subscribe();
        let (outputs, feeding) = opened.feed(&agent, &self.id, self.input.subscribe());
        let ended = async {
            // In this order: an agent forgets the streams of a process for whose exit was waited.
            outputs.drain(&agent, &self.id, &wish).await;
            agent.wait(&self.id).await
        };
        let seen = tokio::select! {
            status = ended => status.map(|status| u32::try_from(status).unwrap_or(UNKNOWN_STATUS)),
            reason = gone(&mut liveness) => Err(ttrpc::Error::Others(reason)),
            () = outstays(wish.clone()) => {
                tracing::error!(process = %self.id, "killed, and its end is not told: it is taken for ended");
                Ok(KILLED_STATUS)
            }
        };
        let ending = match seen {
            Ok(status) => Ending::Exit(Exit::now(status)),
            Err(error) if is_connection_loss(&error) => {
                // What the machine's own watch finds out says more; it notices the same at about the same time.
                let reason = timeout(REASON_TIME, gone(&mut liveness)).await;
                Ending::Lost(reason.unwrap_or_else(|_| format!("connection lost: {error}")))
            }
            Err(error) => {
                tracing::warn!(process = %self.id, %error, "the exit status is unknown");
                Ending::Exit(Exit::now(UNKNOWN_STATUS))
            }
        };
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        let exit = match &ending {
            Ending::Exit(exit) => *exit,
            Ending::Lost(reason) => {
                tracing::warn!(process = %self.id, reason, "the process went down with its machine");
                Exit::now(KILLED_STATUS)
            }
        };
        match &ending {
            Ending::Lost(_) => report(ending).await,
            Ending::Exit(_) => tokio::select! {
                () = report(ending) => {}
                // The machine has nothing more to say.
                _ = gone(&mut liveness) => {}
            },
        }
        self.exit(exit);
    }

    /// Ends the process's record; the first exit counts.
    pub(crate) fn exit(&self, exit: Exit) {
        self.state.send_if_modified(|state| match state {
            State::Exited(_) => false,
            State::Created | State::Starting | State::Running | State::Paused => {
                *state = State::Exited(exit);
                true
            }
        });
    }

    /// Ends a process that never started.
    pub(crate) fn abandon(&self, exit: Exit) -> Result<(), Error> {
        self.step("abandon", |state| state == State::Created, State::Exited(exit))
    }

    /// Any number may wait, before the exit or after it.
    pub(crate) async fn wait(&self) -> Exit {
        let mut states = self.state.subscribe();
        loop {
            if let State::Exited(exit) = *states.borrow_and_update() {
                return exit;
            }
            if states.changed().await.is_err() {
                return Exit::now(UNKNOWN_STATUS);
            }
        }
    }

    /// Notes that the process was told to end, or killed, which is not taken back.
    pub(crate) fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let is_more = *now != Wish::Killed && *now != wish;
            if is_more {
                *now = wish;
            }
            is_more
        });
    }

    pub(crate) fn close_input(&self) {
        self.input.send_replace(Input::Closed);
    }

    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.step("pause", |state| state == State::Running, State::Paused)
    }

    pub(crate) fn resume(&self) -> Result<(), Error> {
        self.step("resume", |state| state == State::Paused, State::Running)
    }

    /// The exit of a process that may be deleted.
    pub(crate) fn exited(&self) -> Result<Option<Exit>, Error> {
        match self.state() {
            State::Created => Ok(None),
            State::Exited(exit) => Ok(Some(exit)),
            state @ (State::Starting | State::Running | State::Paused) => Err(Error::WrongState {
                action: "delete",
                id: self.id.to_string(),
                state: state.name(),
            }),
        }
    }
}

/// Returns when a killed process has had the time to end.
async fn outstays(mut wish: watch::Receiver<Wish>) {
    let is_killed = wish.wait_for(|wish| *wish == Wish::Killed).await.is_ok();
    if is_killed {
        sleep(KILL_LIMIT).await;
    } else {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        let id = ProcessId {
            container: "abc".into(),
            exec: String::new(),
        };
        Process::new(id, StandardStreams::default(), Launch::Container)
    }

    #[tokio::test]
    async fn waiters_before_and_after_the_exit_get_the_same_answer() {
        let process = Arc::new(process());
        let early = tokio::spawn({
            let process = process.clone();
            async move { process.wait().await }
        });
        let exit = Exit::now(3);
        process.exit(exit);
        process.exit(Exit::now(4));
        assert_eq!(early.await.unwrap(), exit);
        assert_eq!(process.wait().await, exit);
    }

    #[test]
    fn a_refusal_names_the_state() {
        let process = process();
        let error = process.pause().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot pause abc: it is created but not started"
        );
    }
}
