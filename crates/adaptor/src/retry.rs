//! Pauses between attempts, each twice as long as the one before.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::sandbox::Limits;

/// The pauses of one action.
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            next: limits.first_pause,
            longest: limits.longest_pause,
        }
    }

    /// Waits, but not beyond `deadline`.
    pub(crate) async fn next(&mut self, deadline: Instant) {
        let until = Instant::now() + self.grow();
        sleep_until(until.min(deadline)).await;
    }

    /// Waits.
    pub(crate) async fn next_unbounded(&mut self) {
        sleep(self.grow()).await;
    }

    fn grow(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }
}
