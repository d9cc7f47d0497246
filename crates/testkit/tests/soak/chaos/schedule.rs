//! What happens, in which order: a seed gives the same again.

use std::time::Duration;

use fastrand::Rng;

/// The longest pause between two steps: about what a restart takes, so that some kills meet a process that starts.
const PAUSE: Duration = Duration::from_secs(4);
/// How often the operator is killed while a KataConfig goes, and again while it comes.
const KILLS: usize = 4;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The operator is killed.
    KillOperator,
    /// One replica of the webhook is killed: of those that run, the one of this number.
    KillWebhook(usize),
    /// All replicas of the webhook are killed.
    KillWebhooks,
    /// An administrator changes how many VMs the node may have.
    SetLimit(usize),
    /// The pod of this number is made where it is not there, and deleted where it is.
    Toggle(usize),
    /// The KataConfig is deleted and made again; the operator is killed after each of these times, in both halves.
    Reinstall([[Duration; KILLS]; 2]),
}

/// Steps without an end.
pub(crate) struct Schedule {
    random: Rng,
    pods: usize,
    /// One of so many steps is a [`Step::Reinstall`].
    reinstalls_one_of: usize,
}

impl Schedule {
    pub(crate) fn new(seed: u64, pods: usize, reinstalls_one_of: usize) -> Self {
        Self {
            random: Rng::with_seed(seed),
            pods,
            reinstalls_one_of,
        }
    }

    /// The next step, and the pause after it.
    pub(crate) fn next(&mut self) -> (Step, Duration) {
        let step = if self.random.usize(..self.reinstalls_one_of) == 0 {
            Step::Reinstall([self.pauses(), self.pauses()])
        } else {
            match self.random.usize(..10) {
                0..3 => Step::KillOperator,
                3..5 => Step::KillWebhook(self.random.usize(..2)),
                5 => Step::KillWebhooks,
                6..8 => Step::SetLimit(self.random.usize(1..=self.pods + 1)),
                _ => Step::Toggle(self.random.usize(..self.pods)),
            }
        };
        (step, self.pause())
    }

    fn pauses(&mut self) -> [Duration; KILLS] {
        std::array::from_fn(|_| self.pause())
    }

    fn pause(&mut self) -> Duration {
        PAUSE.mul_f64(self.random.f64())
    }
}
