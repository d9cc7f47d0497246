//! Whether KVM is of use: found out by booting a real kernel with it, once.
//!
//! That `/dev/kvm` opens and makes a VM proves nothing: inside some virtual machines Linux then hangs or
//! QEMU stops on the first unknown register. So a kernel is booted without an init; it must come to the
//! point where it misses one.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::getpid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::{
    QemuSettings, console,
    error::QemuError,
    machine::{Engine, probe_arguments},
};

/// The longest that a probe may take; with working KVM it takes less than a second.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// What a kernel says when it has come up and has no init.
const KERNEL_CAME_UP: &str = "Unable to mount root fs";

/// What an earlier probe found, and for which kernel, program and boot of the machine.
#[derive(Serialize, Deserialize)]
struct Answer {
    subject: String,
    kvm_works: bool,
}

/// The best way to run guests here; asks an earlier probe's answer first.
pub(crate) async fn probe(settings: &QemuSettings) -> Result<Engine, QemuError> {
    let device = settings.placement.of_qemu(Path::new("/dev/kvm"));
    if File::options().read(true).write(true).open(device).is_err() {
        return Ok(Engine::Tcg);
    }
    let path = settings.state_dir.join("accelerator.json");
    let subject = subject(settings)?;
    let earlier = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
    let kvm_works = match earlier {
        Some(answer) if answer.subject == subject => answer.kvm_works,
        _ => {
            let kvm_works = boots(settings, Engine::Kvm).await?;
            let bytes = serde_json::to_vec(&Answer { subject, kvm_works }).expect("an answer is plain data");
            fs::write(&path, bytes).map_err(QemuError::file("write", &path))?;
            kvm_works
        }
    };
    if !kvm_works {
        tracing::warn!("/dev/kvm is there, but no kernel boots with it: VMs are emulated");
    }
    Ok(if kvm_works { Engine::Kvm } else { Engine::Tcg })
}

/// What the answer depends on: another kernel, another QEMU or another boot of the machine is asked anew.
fn subject(settings: &QemuSettings) -> Result<String, QemuError> {
    let mut digest = Sha256::new();
    let program = settings.placement.of_qemu(&executable(settings));
    for path in [&settings.kernel, &program] {
        let file = fs::metadata(path).map_err(QemuError::file("read", path))?;
        digest.update(format!("{} {} {}\n", path.display(), file.len(), file.mtime()));
    }
    digest.update(fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    Ok(hex::encode(digest.finalize()))
}

/// The program's file, where QEMU runs: the path itself, or the first match of its name in `PATH`.
pub(crate) fn executable(settings: &QemuSettings) -> PathBuf {
    let binary = &settings.binary;
    if binary.components().count() > 1 {
        return binary.clone();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(binary))
        .find(|file| settings.placement.of_qemu(file).is_file());
    found.unwrap_or_else(|| binary.clone())
}

/// Whether a kernel comes up with this engine.
pub(crate) async fn boots(settings: &QemuSettings, engine: Engine) -> Result<bool, QemuError> {
    let console = format!("probe-{}.log", getpid());
    let path = settings.state_dir.join(&console);
    let kernel = settings
        .kernel
        .canonicalize()
        .map_err(QemuError::file("find", &settings.kernel))?;
    let kernel = settings.placement.for_qemu(&kernel);
    let mut command = Command::new(executable(settings));
    command
        .args(probe_arguments(engine, &kernel, &console))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    settings.placement.settle(&mut command, &settings.state_dir)?;
    let mut child = command.spawn().map_err(|source| QemuError::Spawn {
        binary: settings.binary.clone(),
        source,
    })?;

    let ended = tokio::time::timeout(PROBE_LIMIT, child.wait()).await;
    if ended.is_err() {
        child.kill().await.map_err(QemuError::Kill)?;
    }
    let came_up = console::tail(&path).contains(KERNEL_CAME_UP);
    fs::remove_file(&path).map_err(QemuError::file("remove", &path))?;
    Ok(came_up && matches!(ended, Ok(Ok(status)) if status.success()))
}
