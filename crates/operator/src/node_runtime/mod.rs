//! The runtime on one node: a shim, and configuration by which containerd or CRI-O finds it.
//!
//! What `install-node` and `clean-node` do, in a pod that sees the node's root in a folder. It needs nothing of the API
//! server: that it is done is that the pod is ready, and why it failed is what it printed last.
//!
//! ```text
//! shim placed ─► "restart is due" noted ─► configuration placed ─► runtime restarted ─► it answers ─► note removed
//!                                                                                └► it does not: configuration as before
//! ```
//!
//! Every step can be repeated, and a kill between any two is made up for by the next run. A configuration that the
//! container runtime does not start with never stays.

mod configuration;
mod error;
mod files;
mod journal;
mod restart;
#[cfg(test)]
mod tests;

pub(crate) use self::configuration::crio_drop_in;
pub use self::{
    error::NodeRuntimeError,
    files::NodeRoot,
    restart::{RestartWay, run_in},
};

use std::path::Path;

use self::{
    configuration::{ContainerRuntime, Place},
    files::Change,
    restart::{Host, Restart},
};

/// Where the shim is put: a folder of ours, as /usr of some systems cannot be written to.
const SHIM: &str = "/opt/peerpods/bin/containerd-shim-kata-v2";
/// Says that the container runtime has not been restarted since its configuration changed.
const RESTART_DUE: &str = "/var/lib/peerpods/restart-due";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The runtime is to be there.
    Install,
    /// Nothing of it is to be there.
    Remove,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The shim, and the container runtime's configuration.
    Everything,
    /// The shim: the configuration is somebody else's.
    Shim,
}

/// Does it; returns when the container runtime works with it.
///
/// # Errors
/// What could not be done. The container runtime's configuration is then what it was, or what was wanted.
pub fn perform(
    node: &NodeRoot,
    shim: &Path,
    way: RestartWay,
    work: Work,
    extent: Extent,
) -> Result<(), NodeRuntimeError> {
    match extent {
        Extent::Everything => perform_with(node, shim, &Host::new(node, way), work),
        // Shims that run keep the file that they were started from.
        Extent::Shim => match work {
            Work::Install => node.place_program(shim, SHIM),
            Work::Remove => remove_shim(node),
        },
    }
}

fn remove_shim(node: &NodeRoot) -> Result<(), NodeRuntimeError> {
    node.remove(SHIM)?;
    node.remove_empty_folders(&[
        Path::new("/opt/peerpods/bin"),
        Path::new("/opt/peerpods"),
        Path::new("/var/lib/peerpods"),
    ]);
    journal::remove_left(node);
    Ok(())
}

fn perform_with(
    node: &NodeRoot,
    shim: &Path,
    host: &dyn Restart,
    work: Work,
) -> Result<(), NodeRuntimeError> {
    let runtime = ContainerRuntime::of(node)?;
    tracing::debug!(
        runtime = runtime.name(),
        ?work,
        "the container runtime of this node"
    );
    match work {
        Work::Install => {
            // Shims that run keep the file that they were started from.
            node.place_program(shim, SHIM)?;
            configure(node, runtime, host, work)
        }
        Work::Remove => {
            configure(node, runtime, host, work)?;
            remove_shim(node)
        }
    }
}

fn configure(
    node: &NodeRoot,
    runtime: ContainerRuntime,
    host: &dyn Restart,
    work: Work,
) -> Result<(), NodeRuntimeError> {
    let changes = match work {
        Work::Install => Place::of(runtime, node)?.install(node)?,
        Work::Remove => Place::remove_all(runtime, node)?,
    };
    let changes: Vec<Change> = changes
        .into_iter()
        .filter(|change| change.before != change.after)
        .collect();
    if !changes.is_empty() {
        node.write(
            RESTART_DUE,
            "the configuration of the container runtime changes\n",
        )?;
        for change in &changes {
            node.make(change, &change.after)?;
            tracing::info!(file = change.path, "changed");
        }
    } else if !node.exists(RESTART_DUE) {
        tracing::debug!("everything is as it should be");
        return Ok(());
    }
    if let Err(error) = host.restart(runtime) {
        if changes.is_empty() {
            return Err(error);
        }
        for change in &changes {
            node.make(change, &change.before)?;
        }
        // The node has its container runtime again, or had none before either.
        host.restart(runtime)
            .map_err(|again| NodeRuntimeError::NotRestored {
                first: Box::new(error),
                again: Box::new(again),
            })?;
        node.remove(RESTART_DUE)?;
        return Err(NodeRuntimeError::Refused {
            runtime: runtime.name(),
        });
    }
    node.remove(RESTART_DUE)
}
