//! What a pod is told when its VM is about to be taken back.

use std::{convert::Infallible, future::pending, sync::OnceLock};

use peerpods_error::{chain, shorten};
use peerpods_provider::Instance;

use super::Node;
use crate::{
    kubernetes::Warning,
    peer_pods::ObjectKey,
    retry::Pauses,
    sandbox::{Plan, Reason},
};

/// By this word programs know the event.
const REASON: &str = "SpotInterruption";
/// With four bytes each, and the rest of the note, these stay below what an event has room for.
const WORDS_LIMIT: usize = 200;
/// With the pauses between them half a minute, of the two that there are.
const ATTEMPTS: usize = 8;

/// The provider's words for taking a VM back, once it has announced that.
#[derive(Debug, Default)]
pub(super) struct Announcement(OnceLock<String>);

impl Announcement {
    /// The reason for the VM's end, with what was announced of it.
    pub(super) fn explain(self, reason: Reason) -> Reason {
        match (reason, self.0.into_inner()) {
            (Reason::Ended(cause), Some(words)) => Reason::Ended(format!("{words}; {cause}")),
            (Reason::NotBooted(cause), Some(words)) => Reason::NotBooted(format!("{words}; {cause}")),
            (reason, _) => reason,
        }
    }
}

impl Node {
    /// Waits until the provider announces that it takes the VM back, keeps that, and tells the pod; for as long as the VM lives.
    pub(super) async fn pass_interruption_on(
        &self,
        plan: &Plan,
        instance: &Instance,
        announcement: &Announcement,
    ) -> Infallible {
        let words = self.provider.interruption(&instance.id).await;
        let words = shorten(&words, WORDS_LIMIT);
        tracing::warn!(instance = %instance.id, "{words}");
        // A provider that is asked again says the same.
        let words = announcement.0.get_or_init(|| words);
        self.directories.tell_announcement(&plan.sandbox, words);
        if self.cluster.is_configured() {
            self.tell_pod(plan, instance, words).await;
        }
        pending().await
    }

    /// Writes one event, however often this is called: after a restart of the adaptor the provider announces the same again.
    async fn tell_pod(&self, plan: &Plan, instance: &Instance, words: &str) {
        let id = &instance.id;
        let note =
            format!("{words}. The pod ends with it ({id}); its controller, where it has one, replaces it.");
        let key = ObjectKey::of(plan);
        let warning = Warning {
            name: &key.name,
            pod: &plan.pod,
            node: &plan.node,
            reason: REASON,
            note: &note,
        };
        let mut pauses = Pauses::new(&self.limits);
        for left in (0..ATTEMPTS).rev() {
            match self.cluster.warn(&warning).await {
                Ok(()) => return,
                Err(error) if left == 0 => {
                    tracing::warn!(error = chain(&error), "the pod is not told of it");
                    return;
                }
                Err(error) => tracing::debug!(error = chain(&error), "the pod is told of it again"),
            }
            pauses.next_unbounded().await;
        }
    }
}

#[cfg(test)]
mod tests;
