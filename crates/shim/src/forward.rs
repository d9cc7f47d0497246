//! `kubectl port-forward`: the runtime dials the loopback of the pod's namespace on this node, where nothing listens.

use std::path::Path;

use peerpods_error::chain;
use peerpods_tunnel::{
    channel::Connection,
    forward::{LoopbackCatch, carry_caught},
};
use tokio::sync::watch;

use crate::sandbox::{Liveness, gone};

/// Has what is dialled there carried to the machine until that has gone; then nothing keeps the namespace any more.
///
/// Where the kernel does not let it, the pod is one without port-forward.
pub(crate) fn start(namespace: &Path, connection: Connection, mut liveness: watch::Receiver<Liveness>) {
    let catch = match LoopbackCatch::start(namespace) {
        Ok(catch) => catch,
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "kubectl port-forward does not work for this pod"
            );
            return;
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = gone(&mut liveness) => {}
            never = carry_caught(catch, connection) => match never {},
        }
    });
}
