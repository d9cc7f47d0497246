//! How fast this process asks: one bucket of tokens for each of the account's request limits.
//!
//! AWS counts requests per account and region, so that all nodes of a cluster share its limits. A process begins within
//! half of what AWS gives by default, slows down with every throttled answer, and speeds up again with others.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Which request limit a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    /// Reads: 100 at once and 20 a second by AWS's default.
    Describe,
    /// RunInstances: 5 at once and 2 a second.
    Launch,
    /// Tags: 100 at once and 10 a second.
    Tag,
    /// Other changes: 50 at once and 5 a second.
    Change,
    /// Blocks of snapshots: 1,000 a second.
    Blocks,
}

impl Category {
    const ALL: [Self; 5] = [
        Self::Describe,
        Self::Launch,
        Self::Tag,
        Self::Change,
        Self::Blocks,
    ];

    fn rate(self, times: f64) -> Rate {
        let (burst, per_second) = match self {
            Self::Describe => (50.0, 10.0),
            // The bucket is small, and launches must not wait: other nodes' launches come at other times.
            Self::Launch => (5.0, 2.0),
            // Each VM of a batch gets its pod's tags, all at about the same time.
            Self::Tag => (50.0, 10.0),
            Self::Change => (25.0, 5.0),
            Self::Blocks => (500.0, 500.0),
        };
        Rate {
            burst: burst * times,
            per_second: per_second * times,
        }
    }
}

/// How much slower each throttled answer makes a process.
const SLOWER: f64 = 0.7;

/// How much of the full speed each other answer gives back.
const FASTER: f64 = 0.05;

/// The slowest of all, as a part of the full speed: even then something happens.
const SLOWEST: f64 = 0.05;

/// The buckets of one account and region.
#[derive(Debug)]
pub(crate) struct Budget {
    buckets: [Mutex<Bucket>; Category::ALL.len()],
}

impl Budget {
    /// Full buckets, so many times as large as AWS's default limits make them.
    pub(crate) fn new(times: f64) -> Self {
        let now = Instant::now();
        Self {
            buckets: Category::ALL.map(|category| Mutex::new(Bucket::full(category.rate(times), now))),
        }
    }

    /// Waits for this call's turn. Calls of one category take their turns in the order in which they asked.
    pub(crate) async fn take(&self, category: Category) {
        let wait = self.bucket(category).take(Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Takes note of an answer that said "too many requests".
    pub(crate) fn throttled(&self, category: Category) {
        self.bucket(category).throttled(Instant::now());
    }

    /// Takes note of any other answer.
    pub(crate) fn answered(&self, category: Category) {
        self.bucket(category).answered(Instant::now());
    }

    fn bucket(&self, category: Category) -> MutexGuard<'_, Bucket> {
        self.buckets[category as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: f64,
    per_second: f64,
}

/// Tokens that fill up with time; below zero are those that waiting calls have taken ahead.
#[derive(Debug)]
struct Bucket {
    full: Rate,
    per_second: f64,
    tokens: f64,
    updated: Instant,
}

impl Bucket {
    fn full(full: Rate, now: Instant) -> Self {
        Self {
            full,
            per_second: full.per_second,
            tokens: full.burst,
            updated: now,
        }
    }

    /// Takes one token, and answers how long its owner has to wait for it.
    fn take(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= 1.0;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }

    fn throttled(&mut self, now: Instant) {
        self.fill(now);
        // AWS's bucket is empty, whatever this one says.
        self.tokens = self.tokens.min(0.0);
        self.per_second = (self.per_second * SLOWER).max(self.full.per_second * SLOWEST);
    }

    fn answered(&mut self, now: Instant) {
        self.fill(now);
        self.per_second = (self.per_second + self.full.per_second * FASTER).min(self.full.per_second);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.full.burst);
        self.updated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launches() -> (Bucket, Instant) {
        let now = Instant::now();
        (Bucket::full(Category::Launch.rate(1.0), now), now)
    }

    #[test]
    fn a_burst_goes_at_once_and_what_follows_takes_its_turn() {
        let (mut bucket, now) = launches();
        let waits: Vec<u128> = (0..8).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 500, 1_000, 1_500]);
        // Those waited; after them it is as at first.
        assert_eq!(bucket.take(now + Duration::from_secs(5)), Duration::ZERO);
    }

    #[test]
    fn throttled_answers_slow_down_and_others_speed_up() {
        let (mut bucket, now) = launches();
        bucket.throttled(now);
        assert_eq!(bucket.take(now).as_millis(), 714, "one token at 1.4 a second");
        for _ in 0..100 {
            bucket.throttled(now);
        }
        let later = now + Duration::from_secs(1_000);
        assert!(bucket.per_second >= 0.1, "{bucket:?}");
        for _ in 0..20 {
            bucket.answered(later);
        }
        assert_eq!(bucket.per_second, 2.0);
    }

    #[tokio::test(start_paused = true)]
    async fn categories_do_not_wait_for_each_other() {
        let budget = Budget::new(1.0);
        let begin = Instant::now();
        for _ in 0..7 {
            budget.take(Category::Launch).await;
        }
        assert_eq!(begin.elapsed().as_millis(), 1_000);
        budget.take(Category::Describe).await;
        assert_eq!(begin.elapsed().as_millis(), 1_000);
    }
}
