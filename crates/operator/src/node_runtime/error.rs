//! What can go wrong on a node.

use std::{io, path::PathBuf, time::Duration};

/// What could not be done on the node.
#[derive(Debug, thiserror::Error)]
pub enum NodeRuntimeError {
    /// Neither container runtime is there.
    #[error("neither /etc/crio nor containerd is on this node: peer pods need one of them")]
    NoContainerRuntime,
    /// A file could not be read, written or removed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file, on the node.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else configured the handler.
    #[error(
        "{path} has a handler kata-remote that is not of peerpods: remove it there, or set NODE_RUNTIME to preinstalled"
    )]
    NotOurs {
        /// The file.
        path: &'static str,
    },
    /// The block of ours in a file has no end.
    #[error("{path} was changed within the lines that are marked as of peerpods: remove them")]
    BrokenBlock {
        /// The file.
        path: &'static str,
    },
    /// No process to be told to end.
    #[error("{runtime} does not run")]
    NotRunning {
        /// The container runtime.
        runtime: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program and its arguments.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A process could not be told to end.
    #[error("cannot end {runtime}")]
    Signal {
        /// The container runtime.
        runtime: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The container runtime does not answer after a restart.
    #[error("{runtime} does not answer on {} for {} s after its restart", socket.display(), limit.as_secs())]
    Silent {
        /// The container runtime.
        runtime: &'static str,
        /// Its socket.
        socket: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It does not start with our configuration, which is taken back.
    #[error(
        "{runtime} does not start with the configuration of peerpods; it has its own again: see its log on the node"
    )]
    Refused {
        /// The container runtime.
        runtime: &'static str,
    },
    /// It does not start without our configuration either.
    #[error(
        "the container runtime does not start any more, with or without peerpods: {first}; then: {again}"
    )]
    NotRestored {
        /// What went wrong first.
        first: Box<NodeRuntimeError>,
        /// And then.
        again: Box<NodeRuntimeError>,
    },
    /// The root cannot be entered.
    #[error("cannot run {program} with root {}", root.display())]
    RunIn {
        /// The program.
        program: String,
        /// The root.
        root: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
