//! Building a template: a VM boots, says that it is ready, and is saved.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::{Duration, Instant},
};

use peerpods_provider::local;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::UnixListener, process::Child, time::timeout};

use super::{ENTROPY_BYTES, Items, MEMORY, STATE, Template, leave_memory_out, template_machine};
use crate::{
    QemuSettings,
    error::QemuError,
    lock,
    machine::Engine,
    process,
    qmp::Control,
    shape::Plan,
    spawn::{ALIVE, CONSOLE, spawn},
};

const LOCK: &str = "lock";
const BUILDING: &str = "building";
/// Where QEMU sends the state to, in the machine's directory.
const SOCKET: &str = "state.sock";
/// What the guest says on its console (`guest/src/boot/template.rs`).
const READY: &str = "this VM can be saved";
/// The longest for the VM to come up; emulated, on a machine that does something else, it takes a while.
const BOOT_LIMIT: Duration = Duration::from_secs(100);
/// The longest for the state to be saved: it is below a megabyte.
const SAVE_LIMIT: Duration = Duration::from_secs(20);
/// The longest from a kill to the end.
const END_LIMIT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A state without its memory is far smaller; a larger one is none.
const STATE_LIMIT_BYTES: u64 = 64 << 20;
const TAP_PREFIX: &str = "pt";
/// With the prefix as many characters as a device's name may have.
const TAP_DIGITS: usize = 12;

/// Builds the template, unless somebody else is about to. Whatever a builder left that was killed is removed first.
pub(crate) async fn build(
    template: &Template,
    settings: &QemuSettings,
    plan: &Plan,
    engine: Engine,
) -> Result<(), QemuError> {
    local::make_private_directory(&template.root)?;
    let path = template.root.join(LOCK);
    let held = local::open_lock(&path)?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(()),
        Err(error) => return Err(QemuError::file("lock", path)(error.into())),
    }
    let building = template.root.join(BUILDING);
    clean_away(&building).await?;
    let built = build_in(&building, template, settings, plan, engine).await;
    if built.is_err() {
        clean_away(&building).await?;
    }
    built?;
    remove_others(template)
}

async fn build_in(
    building: &Path,
    template: &Template,
    settings: &QemuSettings,
    plan: &Plan,
    engine: Engine,
) -> Result<(), QemuError> {
    local::make_private_directory(building)?;
    Items::blank().write(building, &[0; ENTROPY_BYTES])?;
    let memory = building.join(MEMORY);
    make_memory(&memory, plan.memory_mib)?;
    let tap = format!("{TAP_PREFIX}{}", &template.name.0[..TAP_DIGITS]);
    let machine = template_machine(plan, engine, &memory);
    let mut child = spawn(settings, building, &tap, machine, None).await?;
    let saved = save(building, &mut child).await;
    // It is of no use any more, saved or not.
    child.kill().await.map_err(QemuError::Kill)?;
    let state = saved?;
    for entry in fs::read_dir(building).map_err(QemuError::file("list", building))? {
        let entry = entry.map_err(QemuError::file("list", building))?;
        if entry.file_name() != MEMORY {
            local::remove_file(&entry.path())?;
        }
    }
    local::write_private(&building.join(STATE), &state)?;
    let directory = template.directory();
    local::remove_directory(&directory)?;
    fs::rename(building, &directory).map_err(QemuError::file("name", directory))?;
    let taken = fs::metadata(template.memory()).map_or(0, |file| (file.blocks() * 512) >> 20);
    tracing::info!(memory_mib = taken, "VMs are resumed from a template from now on");
    Ok(())
}

fn make_memory(path: &Path, mebibytes: u32) -> Result<(), QemuError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_len(u64::from(mebibytes) << 20))
        .map_err(QemuError::file("make", path))
}

/// Waits until the guest is ready, and gives the state of the machine's devices. Its CPUs do not run any more then, so
/// that its memory stays as it belongs to that state.
async fn save(directory: &Path, child: &mut Child) -> Result<Vec<u8>, QemuError> {
    let deadline = Instant::now() + BOOT_LIMIT;
    let console = directory.join(CONSOLE);
    while !local::tail(&console).contains(READY) {
        if child.try_wait().map_err(QemuError::Kill)?.is_some() {
            let said = local::tail(&console);
            return Err(QemuError::NotSaved(format!("ended: {}", said.trim())));
        }
        if Instant::now() > deadline {
            return Err(QemuError::NotSaved(format!("was not ready in {BOOT_LIMIT:?}")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let mut control = Control::open(directory).await?;
    leave_memory_out(&mut control).await?;
    let opened = File::open(directory).map_err(QemuError::file("open", directory))?;
    // A socket's path can have 107 bytes, and the directory may be deeper than that.
    let path = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
    let listener = UnixListener::bind(path).map_err(QemuError::Control)?;
    let transfer = async { tokio::try_join!(receive(&listener), send(&mut control)) };
    let transferred = timeout(SAVE_LIMIT, transfer).await;
    let (state, ()) =
        transferred.map_err(|_| QemuError::NotSaved(format!("was not saved in {SAVE_LIMIT:?}")))??;
    Ok(state)
}

async fn receive(listener: &UnixListener) -> Result<Vec<u8>, QemuError> {
    let receiving = async {
        let (stream, _) = listener.accept().await?;
        let mut state = Vec::new();
        stream.take(STATE_LIMIT_BYTES).read_to_end(&mut state).await?;
        Ok::<_, io::Error>(state)
    };
    receiving.await.map_err(QemuError::Control)
}

async fn send(control: &mut Control) -> Result<(), QemuError> {
    let target = json!({"uri": format!("unix:{SOCKET}")});
    control.execute("migrate", target).await?;
    loop {
        let progress = control.execute("query-migrate", json!({})).await?;
        match progress["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(QemuError::NotSaved(format!("could not be: {progress}")));
            }
            _ => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Removes what is left of a build, and the VM that may still run there.
async fn clean_away(building: &Path) -> Result<(), QemuError> {
    let alive = building.join(ALIVE);
    let deadline = Instant::now() + END_LIMIT;
    while lock::is_held(&alive)? {
        process::kill_holder(&alive)?;
        if Instant::now() > deadline {
            return Err(QemuError::NotSaved(format!("did not end in {END_LIMIT:?}")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(local::remove_directory(building)?)
}

/// Templates of VMs as they are not launched any more; what was resumed from them keeps what it has.
fn remove_others(template: &Template) -> Result<(), QemuError> {
    let root = &template.root;
    for entry in fs::read_dir(root).map_err(QemuError::file("list", root))? {
        let entry = entry.map_err(QemuError::file("list", root))?;
        let name = entry.file_name();
        if name == template.name.0.as_str() || name == LOCK {
            continue;
        }
        if entry.path().is_dir() {
            local::remove_directory(&entry.path())?;
        } else {
            local::remove_file(&entry.path())?;
        }
    }
    Ok(())
}
