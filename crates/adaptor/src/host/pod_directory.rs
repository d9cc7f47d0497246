//! The pod directories: where shims find what they need of a sandbox.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use peerpods_proto::shim_settings::{ANNOUNCED_FILE, ENDED_FILE, SHIM_SETTINGS_FILE, ShimSettings};
use peerpods_tunnel::channel::CONNECTION_FILE;

use crate::sandbox::SandboxId;

/// The socket for stock shims.
const AGENT_SOCKET: &str = "agent.ttrpc";
/// When each stage of a start was reached: `<unix nanoseconds> <stage>`, one per line.
const TIMELINE: &str = "timeline";
/// The directories hold keys.
const MODE: u32 = 0o700;
/// The kernel's limit for the path of a socket, without the byte that ends it.
const SOCKET_PATH_LIMIT: usize = 107;
/// A sandbox id, as containerd gives it.
const USUAL_ID: usize = 64;

/// A folder in which agent sockets cannot be.
#[derive(Debug, thiserror::Error)]
#[error("the pods' folder {0} cannot be used: its path is too long for sockets in it, or has a colon")]
pub(crate) struct InvalidPodsDir(PathBuf);

/// `/run/peerpod/pods`, with one directory per sandbox.
#[derive(Clone, Debug)]
pub(crate) struct PodDirectories {
    root: PathBuf,
    settings: ShimSettings,
}

impl PodDirectories {
    /// Takes the folder, checking that sockets in it can be reached: a stock shim splits their path at colons.
    pub(crate) fn new(root: PathBuf, settings: ShimSettings) -> Result<Self, InvalidPodsDir> {
        let length = root.as_os_str().len() + USUAL_ID + AGENT_SOCKET.len() + 2;
        if length > SOCKET_PATH_LIMIT || root.to_string_lossy().contains(':') {
            return Err(InvalidPodsDir(root));
        }
        Ok(Self { root, settings })
    }

    pub(crate) fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.root.join(sandbox.as_str())
    }

    pub(crate) fn agent_socket(&self, sandbox: &SandboxId) -> PathBuf {
        self.path(sandbox).join(AGENT_SOCKET)
    }

    pub(super) fn connection_file(&self, sandbox: &SandboxId) -> PathBuf {
        self.path(sandbox).join(CONNECTION_FILE)
    }

    /// Makes the directory where it is missing, with what the administrator decided in it.
    pub(crate) fn make(&self, sandbox: &SandboxId) -> io::Result<()> {
        let directory = self.path(sandbox);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(MODE)
            .create(&directory)?;
        let settings = serde_json::to_vec(&self.settings).expect("settings are plain data");
        put(&directory, SHIM_SETTINGS_FILE, &settings)
    }

    /// Tells the sandbox's shim that its VM has ended, and why. That it is not told only delays what its own connection
    /// will show.
    pub(crate) fn tell_end(&self, sandbox: &SandboxId, reason: &str) {
        if let Err(error) = put(&self.path(sandbox), ENDED_FILE, reason.as_bytes()) {
            tracing::debug!(%sandbox, %error, "the shim is not told of the VM's end");
        }
    }

    /// Tells the sandbox's shim what was announced of its VM's end, which it may see sooner than anybody here.
    pub(crate) fn tell_announcement(&self, sandbox: &SandboxId, words: &str) {
        if let Err(error) = put(&self.path(sandbox), ANNOUNCED_FILE, words.as_bytes()) {
            tracing::debug!(%sandbox, %error, "the shim is not told of the announcement");
        }
    }

    /// Removes the directory with all that is in it.
    pub(crate) fn remove(&self, sandbox: &SandboxId) -> io::Result<()> {
        match fs::remove_dir_all(self.path(sandbox)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Names of all directories that are there.
    pub(crate) fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Removes a directory that belongs to no sandbox.
    pub(crate) fn remove_stray(&self, name: &str) -> io::Result<()> {
        fs::remove_dir_all(self.root.join(Path::new(name).file_name().unwrap_or_default()))
    }

    /// Notes that a stage was reached: for people and benchmarks, so a failure is none of the pod.
    pub(crate) fn mark(&self, sandbox: &SandboxId, stage: &str) {
        let nanoseconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let path = self.path(sandbox).join(TIMELINE);
        let written = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{nanoseconds} {stage}\n").as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%sandbox, stage, %error, "timeline not written");
        }
    }
}

/// Writes a file of which a reader sees all or nothing.
fn put(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let partial = directory.join(format!("{name}.partial"));
    fs::write(&partial, content)?;
    fs::rename(&partial, directory.join(name))
}
