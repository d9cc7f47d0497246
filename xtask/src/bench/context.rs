//! What every measurement has at hand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, ensure};

use super::{api::Api, node::Node};
use crate::testbed::Profile;

/// The node, the API server, and how much is asked for.
pub(super) struct Context {
    pub(super) api: Api,
    pub(super) node: Node,
    pub(super) profile: Profile,
    quick: bool,
    interrupted: Arc<AtomicBool>,
}

impl Context {
    pub(super) fn new(quick: bool, profile: Profile, interrupted: Arc<AtomicBool>) -> Result<Self> {
        let context = Self {
            api: Api::open()?,
            node: Node,
            profile,
            quick,
            interrupted,
        };
        super::pod::remove_left(&context)?;
        Ok(context)
    }

    /// The number of samples: `full`, or `quick` where the run is one.
    pub(super) fn samples(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Stops a measurement between two samples, once somebody asks for it.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.is_interrupted(), "somebody asked for the end");
        Ok(())
    }

    /// Tells what is going on; the result alone goes to standard output.
    pub(super) fn say(&self, line: &str) {
        eprintln!("bench: {line}");
    }
}
