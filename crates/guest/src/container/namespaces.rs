//! What the containers of a pod share besides the network: host name and inter-process communication.

use std::{fs, path::PathBuf};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::sethostname,
};
use rustix::mount::mount_bind;

use crate::error::GuestError;

const FOLDER: &str = "/run/peerpods/namespaces";

/// The pod's namespaces, kept by mounts.
#[derive(Clone, Debug)]
pub(crate) struct SandboxNamespaces {
    pub(crate) ipc: PathBuf,
    pub(crate) uts: PathBuf,
}

impl SandboxNamespaces {
    /// Makes them; the pod's host name is `hostname`.
    pub(crate) fn create(hostname: &str) -> Result<Self, GuestError> {
        let made = Self {
            ipc: format!("{FOLDER}/ipc").into(),
            uts: format!("{FOLDER}/uts").into(),
        };
        fs::create_dir_all(FOLDER).map_err(GuestError::file("make", FOLDER))?;
        for path in [&made.ipc, &made.uts] {
            fs::write(path, "").map_err(GuestError::file("make", path))?;
        }
        // A thread leaves this process's namespaces, and ends; the mounts keep what it made.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| made.fill(hostname));
            thread.join().expect("making namespaces does not panic")
        })?;
        Ok(made)
    }

    fn fill(&self, hostname: &str) -> Result<(), GuestError> {
        unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .map_err(GuestError::system("make the pod's namespaces"))?;
        if !hostname.is_empty() {
            sethostname(hostname).map_err(GuestError::system("set the pod's host name"))?;
        }
        for (kind, path) in [("ipc", &self.ipc), ("uts", &self.uts)] {
            mount_bind(format!("/proc/thread-self/ns/{kind}"), path)
                .map_err(|error| GuestError::file("keep the namespace", path)(error.into()))?;
        }
        Ok(())
    }
}
