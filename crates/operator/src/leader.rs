//! One operator acts at a time: the one that holds a lease.
//!
//! ```text
//! acquire: wait ─► the lease is free, or nobody renewed it for as long as it says ─► write it ─► leader
//! hold:    renew every RETRY; not renewed for RENEW_LIMIT ─► lost: the process ends before another one may begin
//! ```
//!
//! Times in the lease are for people. How long it was not renewed is told by this process's own clock, from when it saw the
//! last change, so that clocks of machines need not agree.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use peerpods_error::chain;
use tokio::time::{sleep, timeout};

use crate::names::LEASE;

/// Another process may take over this long after the last renewal: as Kubernetes' own controllers do.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops: the rest of the lease is for what it was doing.
const RENEW_LIMIT: Duration = Duration::from_secs(10);
/// How often the lease is looked at and renewed.
const RETRY: Duration = Duration::from_secs(2);
/// How long one call may take, so that a silent API server cannot keep a leader beyond [`RENEW_LIMIT`].
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A process that leads, or wants to.
pub struct Election {
    api: Api<Lease>,
    identity: String,
    /// The last change of the lease that was seen, and when.
    seen: Option<(Mark, Instant)>,
}

/// What changes whenever a lease is renewed.
type Mark = (Option<String>, Option<MicroTime>);

/// Whether a lease can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It is this process's own.
    Own,
    /// Nobody's, or nobody renews it.
    Free,
    /// Another one's.
    Held,
}

fn claim(spec: &LeaseSpec, identity: &str, unchanged: Duration) -> Claim {
    let lasts = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    match spec.holder_identity.as_deref() {
        None | Some("") => Claim::Free,
        Some(holder) if holder == identity => Claim::Own,
        Some(_) if unchanged > lasts.map_or(LEASE_DURATION, Duration::from_secs) => Claim::Free,
        Some(_) => Claim::Held,
    }
}

/// The lease as this process writes it.
fn written(before: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> LeaseSpec {
    let own = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: before
            .filter(|_| own)
            .and_then(|spec| spec.acquire_time.clone())
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if own {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..LeaseSpec::default()
    }
}

impl Election {
    /// Takes part as `identity`, which no other process may use.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            seen: None,
        }
    }

    /// Returns once this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = chain(&error), "cannot look at the lease; trying again"),
            }
            sleep(RETRY).await;
        }
    }

    /// Renews; returns when this process may lead no longer.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(RETRY).await;
            // Counted from before the call: the API server had it no earlier.
            let started = Instant::now();
            match self.attempt().await {
                Ok(true) => renewed = started,
                Ok(false) => {
                    tracing::error!(lease = LEASE, "another process took the lease");
                    return;
                }
                Err(error) => tracing::warn!(error = chain(&error), "cannot renew the lease; trying again"),
            }
            if renewed.elapsed() + RETRY + CALL_LIMIT > LEASE_DURATION || renewed.elapsed() > RENEW_LIMIT {
                tracing::error!(lease = LEASE, "the lease could not be renewed in time");
                return;
            }
        }
    }

    /// Gives the lease up, so that another process need not wait for its end.
    pub async fn release(&self) {
        let release = async {
            let Some(mut lease) = self.api.get_opt(LEASE).await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
                self.api.replace(LEASE, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if !matches!(timeout(CALL_LIMIT, release).await, Ok(Ok(()))) {
            tracing::info!(lease = LEASE, "the lease ends by itself");
        }
    }

    /// Takes or renews the lease, if that can be. Whoever else writes it at the same time makes this fail.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Ok(outcome) = timeout(CALL_LIMIT, self.write()).await else {
            return Err(kube::Error::Service("the API server does not answer".into()));
        };
        match outcome {
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            other => other,
        }
    }

    async fn write(&mut self) -> Result<bool, kube::Error> {
        let parameters = PostParams::default();
        let Some(mut lease) = self.api.get_opt(LEASE).await? else {
            let spec = Some(written(None, &self.identity, Timestamp::now()));
            let metadata = ObjectMeta {
                name: Some(LEASE.to_owned()),
                ..ObjectMeta::default()
            };
            self.api.create(&parameters, &Lease { metadata, spec }).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let mark = (spec.holder_identity.clone(), spec.renew_time.clone());
        let since = match &self.seen {
            Some((seen, since)) if *seen == mark => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((mark, now));
                now
            }
        };
        if claim(&spec, &self.identity, since.elapsed()) == Claim::Held {
            return Ok(false);
        }
        lease.spec = Some(written(Some(&spec), &self.identity, Timestamp::now()));
        // With the version that was read: of two that find it free, one succeeds.
        self.api.replace(LEASE, &parameters, &lease).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_nobody_renews_it() {
        let now = Timestamp::from_second(1000).unwrap();
        let one = written(None, "one", now);
        assert_eq!(claim(&LeaseSpec::default(), "two", Duration::ZERO), Claim::Free);
        assert_eq!(claim(&one, "one", Duration::from_secs(99)), Claim::Own);
        assert_eq!(claim(&one, "two", Duration::from_secs(14)), Claim::Held);
        assert_eq!(claim(&one, "two", Duration::from_secs(16)), Claim::Free);
    }

    #[test]
    fn a_leader_stops_before_another_may_begin() {
        assert!(RENEW_LIMIT + CALL_LIMIT <= LEASE_DURATION);
    }

    #[test]
    fn a_lease_says_since_when_and_how_often_it_changed_hands() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = written(None, "one", at(1));
        let renewed = written(Some(&first), "one", at(9));
        assert_eq!(
            (renewed.acquire_time.clone(), renewed.lease_transitions),
            (first.acquire_time, Some(1))
        );
        let taken = written(Some(&renewed), "two", at(30));
        assert_eq!(
            (taken.acquire_time, taken.lease_transitions),
            (Some(MicroTime(at(30))), Some(2))
        );
    }
}
