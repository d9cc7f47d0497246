//! What a container uses: asked of the guest no more often than it changes.
//!
//! A container runtime asks every second, and most containers rest most of the time. Two same answers are taken for rest: the
//! guest is then asked to tell when they are not true any more, and until it does they are the answer. Its own look is once a
//! second, so that what is served is at most a second behind; the runtime gives a figure the time at which it asked, and
//! takes rates from the differences, which for a container at work are never between old figures.
//!
//! ```text
//! Asked{last} ── the same again ──► Known ── it changed, or half a minute passed ──► Asked{last}
//!      └────── an agent that does not tell of changes ──────► Untold
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerpods_proto::agent::StatsContainerResponse;

use crate::{
    agent::{Agent, Change},
    error::Error,
};

/// What is known of a container's use.
#[derive(Debug)]
enum Knowledge {
    /// Each request is passed on; this was the last answer.
    Asked {
        last: Option<Arc<StatsContainerResponse>>,
    },
    /// The guest tells when this is not so any more.
    Known(Arc<StatsContainerResponse>),
    /// Each request is passed on: the agent does not tell of changes.
    Untold,
}

/// A container's use of its machine.
#[derive(Debug, Clone)]
pub(crate) struct Usage(Arc<Mutex<Knowledge>>);

impl Usage {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Knowledge::Asked { last: None })))
    }

    fn knowledge(&self) -> MutexGuard<'_, Knowledge> {
        // Whatever panicked, what is known is one value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's figures, at most a second behind.
    pub(crate) async fn get(
        &self,
        agent: &Agent,
        container: &str,
    ) -> Result<Arc<StatsContainerResponse>, Error> {
        if let Knowledge::Known(figures) = &*self.knowledge() {
            return Ok(figures.clone());
        }
        let answer = Arc::new(agent.stats(container).await?);
        let mut knowledge = self.knowledge();
        match &*knowledge {
            Knowledge::Asked { last: Some(last) } if *last == answer => {
                *knowledge = Knowledge::Known(answer.clone());
                tokio::spawn(
                    self.clone()
                        .follow(agent.clone(), container.to_owned(), answer.clone()),
                );
            }
            Knowledge::Asked { .. } => {
                *knowledge = Knowledge::Asked {
                    last: Some(answer.clone()),
                }
            }
            // Somebody else asked at the same time.
            Knowledge::Known(_) | Knowledge::Untold => {}
        }
        Ok(answer)
    }

    /// Has the guest tell of the first change.
    async fn follow(self, agent: Agent, container: String, known: Arc<StatsContainerResponse>) {
        let change = agent.await_change(&container, &known).await;
        *self.knowledge() = match change {
            Change::Awaited => Knowledge::Asked { last: Some(known) },
            Change::Untold => Knowledge::Untold,
        };
    }
}
