//! What a sandbox's driver can have done; each action can be repeated and interrupted at any point.

use std::time::Duration;

use async_trait::async_trait;
use peerpods_provider::{Instance, LaunchToken};
use peerpods_tunnel::channel::ServerKeyPin;

use super::{Plan, Reason};
use crate::warm::{Turn, WarmVm};

/// How long and how often a driver tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the first attempt to launch to the last.
    pub(crate) launch: Duration,
    /// From the instance's existence to its agent's answer.
    pub(crate) boot: Duration,
    /// The first pause between two attempts; each further one is twice as long, up to `longest_pause`.
    pub(crate) first_pause: Duration,
    /// The longest pause between two attempts.
    pub(crate) longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Long enough for a provider that throttles; after it the pod's events tell why, and the kubelet tries anew.
            launch: Duration::from_secs(30),
            // Today's default of PROXY_TIMEOUT.
            boot: Duration::from_secs(300),
            first_pause: Duration::from_millis(250),
            // A provider that is down for hours is asked twice a minute.
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// The world of a sandbox: the provider, the node's network, the pod directory.
#[async_trait]
pub(crate) trait Effects: Send + Sync + 'static {
    /// A VM that waits for a pod like this one, where there is one: it is the caller's from now on, who records that.
    fn take_warm(&self, plan: &Plan) -> Option<WarmVm>;

    /// Whether so many pods want VMs now that those are launched together.
    fn is_crowded(&self) -> bool;

    /// Waits for the pod's turn; gives why there is none.
    async fn queue(&self, plan: &Plan) -> Result<Turn, Reason>;

    /// Makes a warm VM the pod's; an error says why it is not to be had. Success where it was made so before.
    async fn claim(&self, plan: &Plan, warm: &WarmVm) -> Result<(), String>;

    /// Ends a warm VM that was not to be had; returns when it is gone.
    async fn discard(&self, plan: &Plan, warm: &WarmVm);

    /// Asks the provider for the instance of `token`, again while that may help.
    async fn launch(&self, plan: &Plan, token: &LaunchToken) -> Result<Instance, Reason>;

    /// Connects the pod's network with the instance and meets its agent.
    async fn join(&self, plan: &Plan, instance: &Instance) -> Result<ServerKeyPin, Reason>;

    /// Lets shims in for as long as the instance lives, and returns why it does not any more.
    /// `reachable` is called once shims can connect.
    async fn serve(
        &self,
        plan: &Plan,
        instance: &Instance,
        server_key: ServerKeyPin,
        reachable: Box<dyn FnOnce() + Send>,
    ) -> Reason;

    /// Ends whatever lives for `token` and removes all of the sandbox from the node; returns when nothing is left.
    async fn drain(&self, plan: &Plan, token: &LaunchToken, instance: Option<&Instance>);
}
