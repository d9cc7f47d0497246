//! EC2's request limits: a bucket of tokens for each action, as AWS documents them for an account in one region.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Fault, Request};

/// How many requests at once, and how many more in a second.
fn rate(action: &str) -> (f64, f64) {
    match action {
        "RunInstances" => (5.0, 2.0),
        "TerminateInstances" => (100.0, 5.0),
        "CreateTags" => (100.0, 10.0),
        _ if action.starts_with("Describe") || action.starts_with("Get") => (100.0, 20.0),
        _ => (50.0, 5.0),
    }
}

/// The buckets, and what they refused.
pub(super) struct Limits {
    buckets: BTreeMap<String, Bucket>,
    refused: Vec<Refused>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

struct Refused {
    request: Request,
    at: Instant,
    again: Option<Duration>,
}

impl Limits {
    pub(super) fn full() -> Self {
        Self {
            buckets: BTreeMap::new(),
            refused: Vec::new(),
        }
    }

    /// What comes of a request that finds its bucket empty.
    pub(super) fn refuse(&mut self, request: &Request) -> Option<Fault> {
        let now = Instant::now();
        let before = self.refused.iter_mut().rev();
        let mut same = before.filter(|refused| refused.again.is_none() && refused.request == *request);
        if let Some(refused) = same.next() {
            refused.again = Some(now - refused.at);
        }
        let (burst, per_second) = rate(&request.action);
        let bucket = self.buckets.entry(request.action.clone()).or_insert(Bucket {
            tokens: burst,
            filled: now,
        });
        let passed = (now - bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * per_second).min(burst);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return None;
        }
        self.refused.push(Refused {
            request: request.clone(),
            at: now,
            again: None,
        });
        Some(Fault::Refuse(503, "RequestLimitExceeded"))
    }

    /// What was refused, and after which time it was asked for again.
    pub(super) fn throttled(&self) -> Vec<(Request, Option<Duration>)> {
        let refused = self.refused.iter();
        refused
            .map(|refused| (refused.request.clone(), refused.again))
            .collect()
    }
}
