//! The task that keeps the pool full, and nothing more than full.

use std::{collections::BTreeMap, time::Duration};

use peerpods_error::chain;
use peerpods_proto::payload::WarmPayload;
use peerpods_provider::{Assignment, Instance, LaunchRequest, Owner, Shape};
use peerpods_tunnel::channel::{ClientIdentity, ServerKeyPin, join};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::{Member, Pool, member::MemberState};
use crate::{
    agent::{self, Credentials},
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

/// Takes up the members that the journal has `left`, and keeps the pool full from then on. Returns where its size is 0, once
/// nothing is left of it.
pub(crate) async fn keep(pool: Pool, left: Vec<Member>) {
    for member in left {
        pool.take_up(member).await;
    }
    let mut pauses = Pauses::new(&pool.settings.limits);
    let mut was_full = false;
    loop {
        while let Some((member, reason)) = pool.next_dismissed() {
            tracing::info!(instance = member.instance_name(), reason, "a warm VM is ended");
            pool.end(&member).await;
        }
        let missing = pool.settings.size.saturating_sub(pool.count());
        if missing == 0 {
            if pool.settings.size == 0 {
                return;
            }
            if !was_full {
                tracing::info!("the pool of warm VMs is full: {} wait", pool.count());
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
    /// Goes on with a member of an earlier run, or ends it.
    async fn take_up(&self, member: Member) {
        let current = self.provider.kind(&Shape::default());
        let is_current = current.is_ok_and(|kind| kind == member.kind)
            && member.scratch_encryption == self.settings.scratch_encryption;
        if is_current && self.count() < self.settings.size && member.warm_vm().is_some() {
            self.admit(member);
        } else {
            // One whose launch was interrupted, or that is not wanted any more.
            self.end(&member).await;
        }
    }

    async fn until_something_changes(&self) {
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep(LOOK_INTERVAL) => {}
        }
        for token in self.outdated() {
            self.dismiss(&token, "VMs are of another kind now".to_owned());
        }
    }

    /// Brings one more VM to where it waits; a failure leaves nothing of it.
    async fn launch_one(&self) -> Result<(), Reason> {
        let mut member = self.new_member()?;
        let recorded = |error: crate::journal::JournalError| Reason::NotLaunched(chain(&error));
        self.journal.put_warm(&member).await.map_err(recorded)?;
        let brought_up = match self.bring_up(&member).await {
            Ok((instance, server_key)) => {
                member.state = MemberState::Waiting { instance, server_key };
                self.journal.put_warm(&member).await.map_err(recorded)
            }
            Err(reason) => Err(reason),
        };
        match brought_up {
            Ok(()) => self.admit(member),
            Err(_) => self.end(&member).await,
        }
        brought_up
    }

    fn new_member(&self) -> Result<Member, Reason> {
        let failed = |cause: &dyn std::error::Error| Reason::NotLaunched(chain(cause));
        let settings = &self.settings;
        Ok(Member {
            token: launch_token(&settings.cluster, &settings.node, "warm", attempt_now()),
            kind: self
                .provider
                .kind(&Shape::default())
                .map_err(|error| failed(&error))?,
            scratch_encryption: settings.scratch_encryption,
            identity: ClientIdentity::issue("without a pod").map_err(|error| failed(&error))?,
            join_secret: agent::new_join_secret()
                .ok_or_else(|| Reason::NotLaunched("there is no randomness".to_owned()))?,
            state: MemberState::Launching,
        })
    }

    async fn bring_up(&self, member: &Member) -> Result<(Instance, ServerKeyPin), Reason> {
        let request = self.request(member)?;
        let limits = &self.settings.limits;
        let launched = timeout(limits.launch, self.provider.launch(&request)).await;
        let instance = launched
            .map_err(|_| Reason::NotLaunched(format!("no answer within {:?}", limits.launch)))?
            .map_err(|error| Reason::NotLaunched(chain(&error)))?;
        let credentials = Credentials {
            identity: &member.identity,
            join_secret: &member.join_secret,
        };
        let port = self.settings.agent_port;
        let met = agent::await_join(self.provider.as_ref(), &instance, port, credentials, limits.boot);
        let server_key = met.await?;
        Ok((instance, server_key))
    }

    fn request(&self, member: &Member) -> Result<LaunchRequest, Reason> {
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
            shape: Shape::default(),
            name: "podvm-warm".to_owned(),
            tags: BTreeMap::new(),
            payload: Zeroizing::new(rendered.as_bytes().to_vec()),
        })
    }

    /// Lets pods take the member, and watches it.
    fn admit(&self, member: Member) {
        let (pool, watched) = (self.clone(), member.clone());
        self.add(member, async move {
            if let Some(reason) = pool.until_useless(&watched).await {
                pool.dismiss(&watched.token, reason);
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
        })
    }

    /// Ends whatever lives of a member, and forgets it; returns when nothing is left.
    async fn end(&self, member: &Member) {
        let mut pauses = Pauses::new(&self.settings.limits);
        while let Err(error) = self.try_end(member).await {
            tracing::warn!(token = %member.token, error, "a warm VM's end is tried again");
            pauses.next_unbounded().await;
        }
    }

    async fn try_end(&self, member: &Member) -> Result<(), String> {
        let found = self.provider.find(&member.token).await;
        let found = found.map_err(|error| chain(&error))?.map(|instance| instance.id);
        // One that has ended is not found any more, and yet may have left something.
        let waited = member.warm_vm().map(|warm| warm.instance.id);
        for id in found.iter().chain(&waited) {
            self.provider.terminate(id).await.map_err(|error| chain(&error))?;
        }
        self.journal
            .remove_warm(&member.token)
            .await
            .map_err(|error| chain(&error))
    }
}

impl Member {
    fn instance_name(&self) -> String {
        self.warm_vm()
            .map_or_else(|| "none".to_owned(), |warm| warm.instance.id.to_string())
    }
}
