//! The task that keeps the pool full, and nothing more than full.

use std::{collections::BTreeMap, time::Duration};

use peerpods_error::chain;
use peerpods_proto::payload::WarmPayload;
use peerpods_provider::{Assignment, Instance, LaunchRequest, Owner, Shape};
use peerpods_tunnel::channel::{ClientIdentity, join};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::{Member, Pool, member::MemberState, pool::Kept};
use crate::{
    agent::{self, Credentials},
    journal::JournalError,
    retry::Pauses,
    sandbox::{Reason, attempt_now, launch_token},
};

/// How often members are compared with what VMs are now: an image may be replaced at any time.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// After a member was taken the next one is not launched at once: the pod that took it has the machine first.
const REFILL_PAUSE: Duration = Duration::from_secs(2);
/// The longest that a member goes without a word; shorter where its lease asks for it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);
/// A lease is renewed this often in its term, so that one lost word does not end a VM.
const RENEWALS_PER_LEASE: u32 = 4;
/// After this many words without an answer a member counts as dead.
const SILENCE_LIMIT: u32 = 3;

/// Takes up the members that the journal has `left`, and keeps the pool full from then on. Returns where nothing is ever in
/// it, once nothing is left of it.
pub(crate) async fn keep(pool: Pool, left: Vec<Member>) {
    pool.take_up(left).await;
    let mut pauses = Pauses::new(&pool.settings.limits);
    let mut was_full = false;
    loop {
        while let Some((member, reason)) = pool.next_dismissed() {
            tracing::info!(instance = member.key(), reason, "a warm VM is ended");
            pool.end(&member).await;
        }
        let missing = pool.settings.size.saturating_sub(pool.spares());
        if missing == 0 {
            if pool.settings.size == 0 && pool.provider.batch_limit() == 1 {
                return;
            }
            if !was_full && pool.settings.size > 0 {
                tracing::info!("the pool of warm VMs is full: {} wait", pool.spares());
            }
            was_full = true;
            pool.until_something_changes().await;
            continue;
        }
        if was_full {
            was_full = false;
            sleep(REFILL_PAUSE).await;
        }
        match pool.launch_one().await {
            Ok(()) => pauses = Pauses::new(&pool.settings.limits),
            Err(reason) => {
                tracing::warn!(%reason, "a warm VM is tried again");
                pauses.next_unbounded().await;
            }
        }
    }
}

impl Pool {
    /// Goes on with members of an earlier run, and ends those whose launch was interrupted, or that are not wanted any more.
    async fn take_up(&self, left: Vec<Member>) {
        let current = self.provider.kind(&Shape::default());
        let mut ends = JoinSet::new();
        for member in left {
            let is_current = current.as_ref().is_ok_and(|kind| *kind == member.kind)
                && member.scratch_encryption == self.settings.scratch_encryption;
            if is_current && self.spares() < self.settings.size && member.warm_vm().is_some() {
                self.admit(member, Kept::Spare);
            } else {
                let pool = self.clone();
                ends.spawn(async move { pool.end(&member).await });
            }
        }
        ends.join_all().await;
    }

    async fn until_something_changes(&self) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep(LOOK_INTERVAL) => {}
        }
        for (id, why) in self.useless() {
            self.dismiss(&id, why);
        }
    }

    /// Brings one more VM to where it waits; a failure leaves nothing of it.
    async fn launch_one(&self) -> Result<(), Reason> {
        let launching = self.new_member(&Shape::default())?;
        self.journal.put_warm(&launching).await.map_err(unrecorded)?;
        match self.bring_up(&launching).await {
            Ok(waiting) => {
                self.admit(waiting, Kept::Spare);
                Ok(())
            }
            Err(reason) => {
                self.end(&launching).await;
                Err(reason)
            }
        }
    }

    /// The record of a launch that is about to be asked for.
    pub(super) fn new_member(&self, shape: &Shape) -> Result<Member, Reason> {
        let failed = |cause: &dyn std::error::Error| Reason::NotLaunched(chain(cause));
        let settings = &self.settings;
        Ok(Member {
            token: launch_token(&settings.cluster, &settings.node, "warm", attempt_now()),
            kind: self.provider.kind(shape).map_err(|error| failed(&error))?,
            scratch_encryption: settings.scratch_encryption,
            identity: ClientIdentity::issue("without a pod").map_err(|error| failed(&error))?,
            join_secret: agent::new_join_secret()
                .ok_or_else(|| Reason::NotLaunched("there is no randomness".to_owned()))?,
            state: MemberState::Launching,
        })
    }

    async fn bring_up(&self, launching: &Member) -> Result<Member, Reason> {
        let request = self.request(launching, Shape::default())?;
        let limits = &self.settings.limits;
        let launched = timeout(limits.launch, self.provider.launch(&request)).await;
        let instance = launched
            .map_err(|_| Reason::NotLaunched(format!("no answer within {:?}", limits.launch)))?
            .map_err(|error| Reason::NotLaunched(chain(&error)))?;
        let waiting = self.meet(launching, instance).await?;
        let recorded = self
            .journal
            .replace_warm(launching, std::slice::from_ref(&waiting));
        recorded.await.map_err(unrecorded)?;
        Ok(waiting)
    }

    /// Waits for the guest of an instance; gives the record of a member that waits.
    pub(super) async fn meet(&self, launched: &Member, instance: Instance) -> Result<Member, Reason> {
        let credentials = Credentials {
            identity: &launched.identity,
            join_secret: &launched.join_secret,
        };
        let (port, limit) = (self.settings.agent_port, self.settings.limits.boot);
        let met = agent::await_join(self.provider.as_ref(), &instance, port, credentials, limit);
        let server_key = met.await?;
        Ok(Member {
            state: MemberState::Waiting { instance, server_key },
            ..launched.clone()
        })
    }

    pub(super) fn request(&self, member: &Member, shape: Shape) -> Result<LaunchRequest, Reason> {
        let payload = WarmPayload {
            client_ca: member.identity.authority_pem.clone(),
            join_secret: member.join_secret.clone(),
            lease: self.settings.lease,
            scratch_encryption: member.scratch_encryption,
        };
        let rendered = payload
            .render()
            .map_err(|error| Reason::NotLaunched(chain(&error)))?;
        Ok(LaunchRequest {
            token: member.token.clone(),
            owner: Owner {
                cluster: self.settings.cluster.clone(),
                node: self.settings.node.clone(),
                assignment: Assignment::Warm,
            },
            shape,
            name: "podvm-warm".to_owned(),
            tags: BTreeMap::new(),
            payload: Zeroizing::new(rendered.as_bytes().to_vec()),
        })
    }

    /// Lets pods take a member that waits, and watches it.
    pub(super) fn admit(&self, member: Member, kept: Kept) {
        let Some(id) = member.instance().map(|instance| instance.id.clone()) else {
            return;
        };
        let (pool, watched) = (self.clone(), member.clone());
        self.add(id.clone(), member, kept, async move {
            if let Some(reason) = pool.until_useless(&watched).await {
                pool.dismiss(&id, &reason);
            }
        });
    }

    /// Keeps the member's lease, and returns why it is of no use any more.
    async fn until_useless(&self, member: &Member) -> Option<String> {
        let warm = member.warm_vm()?;
        let address = agent::address(&warm.instance, self.settings.agent_port);
        let pause = RENEWAL_INTERVAL.min(self.settings.lease / RENEWALS_PER_LEASE);
        let silence = async {
            let mut unanswered = 0;
            loop {
                sleep(pause).await;
                match join(address, &member.identity, &member.join_secret).await {
                    Ok(key) if key == warm.server_key => unanswered = 0,
                    Ok(_) => return "it has another key".to_owned(),
                    Err(error) if error.retryable() && unanswered + 1 < SILENCE_LIMIT => unanswered += 1,
                    Err(error) => return chain(&error),
                }
            }
        };
        Some(tokio::select! {
            reason = silence => reason,
            reason = agent::await_death(self.provider.as_ref(), &warm.instance) => reason.to_string(),
            // No pod is to begin on it.
            words = self.provider.interruption(&warm.instance.id) => words,
        })
    }

    /// Ends whatever lives of a member, and forgets it; returns when nothing is left.
    pub(super) async fn end(&self, member: &Member) {
        let mut pauses = Pauses::new(&self.settings.limits);
        while let Err(error) = self.try_end(member).await {
            tracing::warn!(token = %member.token, error, "a warm VM's end is tried again");
            pauses.next_unbounded().await;
        }
    }

    async fn try_end(&self, member: &Member) -> Result<(), String> {
        let instances = match member.instance() {
            Some(instance) => vec![instance.clone()],
            // Nobody has any of them: a launch's record is replaced by its instances' before one is given away.
            None => {
                let found = self.provider.find_all(&member.token).await;
                found.map_err(|error| chain(&error))?
            }
        };
        for instance in instances {
            let ended = self.provider.terminate(&instance.id).await;
            ended.map_err(|error| chain(&error))?;
        }
        let forgotten = self.journal.remove_warm(member).await;
        forgotten.map_err(|error| chain(&error))
    }
}

/// For use with `map_err`.
pub(super) fn unrecorded(error: JournalError) -> Reason {
    Reason::NotLaunched(chain(&error))
}
