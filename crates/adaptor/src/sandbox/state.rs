//! What a sandbox's VM goes through, as a pure function: no I/O, no time, no chance.

use peerpods_provider::{Instance, LaunchToken};
use peerpods_tunnel::channel::ServerKeyPin;
use serde::{Deserialize, Serialize};

use super::Reason;
use crate::warm::WarmVm;

/// How far a sandbox's VM is. Written to the journal before anything is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum State {
    /// The pod's network is known and the VM's name is chosen; nothing is launched.
    Reserved { token: LaunchToken },
    /// It waits with other pods for VMs that are launched together; nothing is launched for its own token.
    Queued { token: LaunchToken },
    /// A VM that waits is being made the pod's. The token is for the launch of another, where this one is not to be had.
    Claiming { token: LaunchToken, warm: WarmVm },
    /// The warm VM was not to be had, and is being ended.
    Discarding { token: LaunchToken, warm: WarmVm },
    /// The provider was or will be asked for the VM; an instance may exist.
    Launching { token: LaunchToken },
    /// The instance exists; its agent is awaited.
    Booting { token: LaunchToken, instance: Instance },
    /// The agent proved itself; shims may connect.
    Ready {
        token: LaunchToken,
        instance: Instance,
        server_key: ServerKeyPin,
    },
    /// Whatever was launched for the token is being ended.
    Draining {
        token: LaunchToken,
        instance: Option<Instance>,
        reason: Reason,
    },
    /// Nothing is left of the VM.
    Gone { reason: Reason },
}

/// What can happen to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The shim wants the VM.
    Start,
    /// It wants the VM, and others want some at this moment: only a sandbox that is reserved is asked so.
    StartQueued,
    /// The pool gave a VM for it: only a sandbox that is reserved or queued is asked so.
    StartWith(WarmVm),
    /// Its turn has come, and the pool has a VM for it, unless another pod was faster.
    Offered,
    /// Its turn has come, and nobody waits with it any more.
    Alone,
    /// The warm VM is the pod's.
    Claimed(Instance),
    /// The warm VM is not to be had.
    Unclaimed(Instance),
    /// The warm VM that was not to be had has ended.
    Discarded(Instance),
    /// The provider made the instance, or found the one that it made before.
    Launched(Instance),
    /// The agent proved the join secret.
    Joined {
        instance: Instance,
        server_key: ServerKeyPin,
    },
    /// What was being done cannot be completed.
    Failed(Reason),
    /// The VM is no longer wanted.
    Stop(Reason),
    /// The provider confirmed that nothing lives for the token, and the node holds nothing of the sandbox.
    /// Carries the instance that was ended: the end of another one is not news.
    Ended(Option<Instance>),
    /// The adaptor has started again: what was being done was interrupted, at any point.
    Replayed,
}

/// What is to be done, after the state that asks for it is durable. Each can be repeated and interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Wait with others: [`Event::Offered`], [`Event::Alone`] or [`Event::Failed`].
    Queue,
    /// Give the warm VM the pod: [`Event::Claimed`] or [`Event::Unclaimed`].
    Claim(WarmVm),
    /// End the warm VM: [`Event::Discarded`].
    Discard(WarmVm),
    /// Ask the provider for the instance of the token: [`Event::Launched`] or [`Event::Failed`].
    Launch(LaunchToken),
    /// Connect the pod's network and meet the agent: [`Event::Joined`] or [`Event::Failed`].
    Join(Instance),
    /// Let shims in, and watch that the instance lives: [`Event::Failed`] when it does not.
    Serve(Instance, ServerKeyPin),
    /// End the instance and whatever else was launched for the token; remove all of the sandbox from the
    /// node: [`Event::Ended`].
    Drain(LaunchToken, Option<Instance>),
}

/// The keys of the states in which a sandbox can be seen.
pub(crate) const STATE_KEYS: [&str; 8] = [
    "reserved",
    "queued",
    "claiming",
    "discarding",
    "launching",
    "booting",
    "ready",
    "draining",
];

impl State {
    /// The word by which figures tell states apart; the journal has the same.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved",
            Self::Queued { .. } => "queued",
            Self::Claiming { .. } => "claiming",
            Self::Discarding { .. } => "discarding",
            Self::Launching { .. } => "launching",
            Self::Booting { .. } => "booting",
            Self::Ready { .. } => "ready",
            Self::Draining { .. } => "draining",
            Self::Gone { .. } => "gone",
        }
    }

    /// A word for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved",
            Self::Queued { .. } => "waiting for its turn",
            Self::Claiming { .. } => "being claimed",
            Self::Discarding { .. } => "being replaced",
            Self::Launching { .. } => "being launched",
            Self::Booting { .. } => "booting",
            Self::Ready { .. } => "ready",
            Self::Draining { .. } => "being ended",
            Self::Gone { .. } => "gone",
        }
    }

    /// Token and instance of a VM that may live.
    pub(crate) fn vm(&self) -> Option<(&LaunchToken, Option<&Instance>)> {
        match self {
            Self::Reserved { token } | Self::Queued { token } | Self::Launching { token } => {
                Some((token, None))
            }
            // Nothing was launched for the sandbox's own token; the warm VM's may be that of other pods' VMs, too.
            Self::Claiming { token, warm } | Self::Discarding { token, warm } => {
                Some((token, Some(&warm.instance)))
            }
            Self::Booting { token, instance } | Self::Ready { token, instance, .. } => {
                Some((token, Some(instance)))
            }
            Self::Draining { token, instance, .. } => Some((token, instance.as_ref())),
            Self::Gone { .. } => None,
        }
    }
}

/// The next state, and what to do once it is durable. An event that the state has no use for changes nothing.
///
/// At most one effect is asked for; it takes the place of the one that is under way.
pub(crate) fn step(state: State, event: Event) -> (State, Option<Effect>) {
    match (state, event) {
        (State::Reserved { token }, Event::Start) => launch(token),
        (State::Reserved { token }, Event::StartQueued) => queue(token),
        (State::Reserved { token } | State::Queued { token }, Event::StartWith(warm)) => claim(token, warm),
        (State::Queued { token }, Event::Offered) => queue(token),
        (State::Queued { token }, Event::Alone) => launch(token),
        (State::Claiming { token, warm }, Event::Claimed(claimed)) if claimed == warm.instance => {
            boot(token, warm.instance)
        }
        (State::Claiming { token, warm }, Event::Unclaimed(refused)) if refused == warm.instance => {
            discard(token, warm)
        }
        (State::Discarding { token, warm }, Event::Discarded(ended)) if ended == warm.instance => {
            launch(token)
        }
        (State::Launching { token }, Event::Launched(instance)) => boot(token, instance),
        (
            State::Booting { token, instance },
            Event::Joined {
                instance: joined,
                server_key,
            },
        ) if joined == instance => ready(token, instance, server_key),
        (State::Draining { instance, reason, .. }, Event::Ended(ended)) if ended == instance => {
            (State::Gone { reason }, None)
        }
        // The launch was answered although it was given up: its instance must end, too.
        (
            State::Draining {
                token,
                instance: None,
                reason,
            },
            Event::Launched(instance),
        ) => drain(token, Some(instance), reason),
        (State::Queued { token }, Event::Replayed) => queue(token),
        (State::Claiming { token, warm }, Event::Replayed) => claim(token, warm),
        (State::Discarding { token, warm }, Event::Replayed) => discard(token, warm),
        (State::Launching { token }, Event::Replayed) => launch(token),
        (State::Booting { token, instance }, Event::Replayed) => boot(token, instance),
        (
            State::Ready {
                token,
                instance,
                server_key,
            },
            Event::Replayed,
        ) => ready(token, instance, server_key),
        (
            State::Draining {
                token,
                instance,
                reason,
            },
            Event::Replayed,
        ) => drain(token, instance, reason),
        (state @ (State::Draining { .. } | State::Gone { .. }), _) => (state, None),
        (state, Event::Stop(reason) | Event::Failed(reason)) => match state.vm() {
            Some((token, instance)) => drain(token.clone(), instance.cloned(), reason),
            None => (state, None),
        },
        (
            state @ (State::Reserved { .. }
            | State::Queued { .. }
            | State::Claiming { .. }
            | State::Discarding { .. }
            | State::Launching { .. }
            | State::Booting { .. }
            | State::Ready { .. }),
            Event::Start
            | Event::StartQueued
            | Event::StartWith(_)
            | Event::Offered
            | Event::Alone
            | Event::Claimed(_)
            | Event::Unclaimed(_)
            | Event::Discarded(_)
            | Event::Launched(_)
            | Event::Joined { .. }
            | Event::Ended(_)
            | Event::Replayed,
        ) => (state, None),
    }
}

fn queue(token: LaunchToken) -> (State, Option<Effect>) {
    (State::Queued { token }, Some(Effect::Queue))
}

fn claim(token: LaunchToken, warm: WarmVm) -> (State, Option<Effect>) {
    let effect = Effect::Claim(warm.clone());
    (State::Claiming { token, warm }, Some(effect))
}

fn discard(token: LaunchToken, warm: WarmVm) -> (State, Option<Effect>) {
    let effect = Effect::Discard(warm.clone());
    (State::Discarding { token, warm }, Some(effect))
}

fn launch(token: LaunchToken) -> (State, Option<Effect>) {
    (
        State::Launching { token: token.clone() },
        Some(Effect::Launch(token)),
    )
}

fn boot(token: LaunchToken, instance: Instance) -> (State, Option<Effect>) {
    (
        State::Booting {
            token,
            instance: instance.clone(),
        },
        Some(Effect::Join(instance)),
    )
}

fn ready(token: LaunchToken, instance: Instance, server_key: ServerKeyPin) -> (State, Option<Effect>) {
    let effect = Effect::Serve(instance.clone(), server_key);
    (
        State::Ready {
            token,
            instance,
            server_key,
        },
        Some(effect),
    )
}

fn drain(token: LaunchToken, instance: Option<Instance>, reason: Reason) -> (State, Option<Effect>) {
    let effect = Effect::Drain(token.clone(), instance.clone());
    (
        State::Draining {
            token,
            instance,
            reason,
        },
        Some(effect),
    )
}

#[cfg(test)]
mod tests;
