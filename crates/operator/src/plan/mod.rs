//! What is to be done: a pure function of what is observed.
//!
//! Nothing here remembers anything, and no action depends on another of the same plan: what must come after something
//! waits until that is observed. So an operator that was killed anywhere goes on where it was.
//!
//! ```text
//! KataConfig made ─► finalizer ─► objects, labels of nodes ─► runtime on nodes ─► capacity
//!                                 webhook's backend ready ─► its registration
//!
//! no image is named   ─► a Job that publishes ours ─► its id is a setting ─► adaptors; the Job goes
//!
//! KataConfig goes ─► no pod uses the class ─► RuntimeClass ─► no VM ─► registration ─► backend, adaptor, capacity
//!                    ─► runtime off the nodes ─► labels ─► what removed it ─► finalizer
//! ```

mod action;
mod admission;
mod capacity;
mod conditions;
mod events;
mod image;
mod install;
#[cfg(test)]
mod interrupted;
mod nodes;
#[cfg(test)]
mod openshift;
mod reaper;
mod removal;
mod selection;
mod settings;
mod status;
#[cfg(test)]
mod tests;
mod way;
#[cfg(test)]
mod world;

pub use self::{
    action::{Action, Announcement, NodePatch, Plan, Regarding, Severity},
    nodes::RUNTIME_LIMIT,
};

use k8s_openapi::jiff::Timestamp;
use peerpods_api::KataConfig;

use crate::{installation::Installation, observed::Observed};

/// What is wanted of the cluster as a whole.
enum Goal<'a> {
    /// All that the KataConfig asks for.
    Install(&'a KataConfig),
    /// Nothing of ours, for the KataConfig that says so or goes, or because there is none.
    Remove(Option<&'a KataConfig>),
}

impl<'a> Goal<'a> {
    fn of(configs: &'a [KataConfig]) -> Self {
        match acting(configs) {
            Some(config) if config.metadata.deletion_timestamp.is_none() && config.spec.enable_peer_pods => {
                Self::Install(config)
            }
            other => Self::Remove(other),
        }
    }
}

/// The one that counts: the oldest. Two of the same second are told apart by their names.
fn acting(configs: &[KataConfig]) -> Option<&KataConfig> {
    configs.iter().min_by_key(|config| {
        let made = config.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (made, config.metadata.name.as_deref().unwrap_or_default())
    })
}

/// Whether a plan needs to know who uses the runtime class: to know it all pods of the cluster must be read.
pub fn needs_class_use(observed: &Observed) -> bool {
    matches!(Goal::of(&observed.kata_configs), Goal::Remove(_)) && removal::is_anything_used(observed)
}

/// What is to be done now.
pub fn plan(observed: &Observed, installation: &Installation, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let leaving = match Goal::of(&observed.kata_configs) {
        Goal::Install(config) => install::plan(config, observed, installation, now, &mut plan),
        Goal::Remove(config) => removal::plan(config, observed, installation, now, &mut plan),
    };
    status::refuse_others(
        acting(&observed.kata_configs),
        &observed.kata_configs,
        now,
        &mut plan,
    );
    capacity::plan(observed, installation, &leaving, now, &mut plan);
    reaper::plan(observed, installation.patience, now, &mut plan);
    plan
}
