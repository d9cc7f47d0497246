//! Templates: a VM that was saved when it had booted and was nobody's, to be resumed as often as VMs are needed.
//!
//! A resumed VM runs after hundredths of a second instead of a boot. Its memory is the template's file, mapped so that what
//! it writes is its own: VMs share what none of them changed, and the file stays as it is. What it is told (payload,
//! address, random bytes) are `fw_cfg` items, which belong to the QEMU process and not to the saved state; their sizes are
//! known to the saved kernel, so they are padded to slots. The guest's half is `guest/src/boot/template.rs`.
//!
//! ```text
//! TEMPLATES/lock           held by who builds one
//! TEMPLATES/building/      the VM that comes up to be saved; of a builder that was killed: removed by the next
//! TEMPLATES/HASH/memory    its memory, sparse
//! TEMPLATES/HASH/state     its devices
//! TEMPLATES/HASH.rejected  was built or resumed in vain: tried again after a while
//! ```
//!
//! HASH covers all that a saved state depends on: the command line, the programs and files as they are, the machine's boot.
//! There is one template at a time, for VMs of the default size; all others boot.

mod build;

use std::{
    fs::{self, File},
    os::fd::{OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use peerpods_provider::local;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub(crate) use self::build::build;
use crate::{
    QemuSettings,
    accelerator::executable,
    error::QemuError,
    machine::{ENTROPY_FILE, Engine, Machine, Memory, NETWORK_FILE},
    qmp::Control,
    shape::{self, Plan},
};

/// The items' sizes. A payload that does not fit, of a pod with very many routes, is for a VM that boots.
const USER_DATA_SLOT: usize = 4096;
const NETWORK_SLOT: usize = 256;
/// As many as the guest asks for.
pub(crate) const ENTROPY_BYTES: usize = 64;
/// What items are filled up with: nothing to the parsers of both.
const PADDING: u8 = b'\n';

const MEMORY: &str = "memory";
const STATE: &str = "state";
const REJECTED: &str = "rejected";
/// What failed on a busy machine may work later; what cannot work is not tried all the time.
const REJECTED_KEPT: Duration = Duration::from_secs(3600);
/// Hex digits of a name: with 128 bits no two templates ever meet.
const NAME_DIGITS: usize = 32;
/// A resumed VM does not tell the network its old address.
const ANNOUNCEMENTS: u32 = 0;

/// Which VM a template is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateName(String);

/// A template, or the place where it is to be.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    root: PathBuf,
    name: TemplateName,
}

/// What there is of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Usable,
    /// It was found to be of no use, not long ago.
    Rejected,
    Missing,
}

/// What a resumed VM is told, in the items' sizes.
pub(crate) struct Items {
    /// With the payload's secret.
    user_data: Zeroizing<Vec<u8>>,
    network: Zeroizing<Vec<u8>>,
}

impl Items {
    /// Fills both up; `None` where one does not fit.
    pub(crate) fn fit(user_data: &[u8], network: &[u8]) -> Option<Self> {
        Some(Self {
            user_data: pad(user_data, USER_DATA_SLOT)?,
            network: pad(network, NETWORK_SLOT)?,
        })
    }

    /// What a template has: nothing, in the same sizes.
    fn blank() -> Self {
        Self::fit(&[], &[]).expect("nothing fits into everything")
    }

    /// Writes them into a machine's directory, with random bytes for this VM alone, as files that its QEMU reads.
    pub(crate) fn write(&self, directory: &Path, entropy: &[u8; ENTROPY_BYTES]) -> Result<(), QemuError> {
        local::write_private(&directory.join(local::USER_DATA), &self.user_data)?;
        local::write_private(&directory.join(NETWORK_FILE), &self.network)?;
        Ok(local::write_private(&directory.join(ENTROPY_FILE), entropy)?)
    }
}

fn pad(bytes: &[u8], slot: usize) -> Option<Zeroizing<Vec<u8>>> {
    (bytes.len() <= slot).then(|| {
        // In its full size at once: what grows leaves copies behind.
        let mut padded = Zeroizing::new(Vec::with_capacity(slot));
        padded.extend_from_slice(bytes);
        padded.resize(slot, PADDING);
        padded
    })
}

impl Template {
    /// The template in `root` for such VMs, be it there or not.
    pub(crate) fn of(
        root: &Path,
        settings: &QemuSettings,
        plan: &Plan,
        engine: Engine,
    ) -> Result<Self, QemuError> {
        let mut digest = Sha256::new();
        for argument in template_machine(plan, engine, Path::new(MEMORY)).arguments() {
            digest.update(argument.as_encoded_bytes());
            digest.update([0]);
        }
        digest.update(format!("{:?}", settings.scratch));
        let program = settings.placement.of_qemu(&executable(settings));
        for path in [&plan.kernel, &plan.initrd, &program] {
            digest.update(shape::file_version(path)?);
        }
        digest.update(fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
        let name = hex::encode(digest.finalize());
        Ok(Self {
            root: root.to_owned(),
            name: TemplateName(name[..NAME_DIGITS].to_owned()),
        })
    }

    pub(crate) fn presence(&self) -> Presence {
        let rejected = fs::metadata(self.rejected()).and_then(|file| file.modified());
        let age = rejected.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
        if age.is_ok_and(|age| age < REJECTED_KEPT) {
            Presence::Rejected
        } else if self.directory().join(STATE).exists() {
            Presence::Usable
        } else {
            Presence::Missing
        }
    }

    /// The file that is the memory of the saved VM.
    pub(crate) fn memory(&self) -> PathBuf {
        self.directory().join(MEMORY)
    }

    /// The state of its devices, for a QEMU process to inherit.
    pub(crate) fn open_state(&self) -> Result<OwnedFd, QemuError> {
        let path = self.directory().join(STATE);
        let file = File::open(&path).map_err(QemuError::file("open", path))?;
        Ok(file.into())
    }

    /// Nobody uses it any more. VMs that were resumed from it keep what they have of it.
    pub(crate) fn reject(&self) -> Result<(), QemuError> {
        let path = self.rejected();
        fs::write(&path, "").map_err(QemuError::file("write", path))?;
        Ok(local::remove_directory(&self.directory())?)
    }

    fn directory(&self) -> PathBuf {
        self.root.join(&self.name.0)
    }

    fn rejected(&self) -> PathBuf {
        self.root.join(format!("{}.{REJECTED}", self.name.0))
    }
}

/// The machine that is saved; all that is resumed is like it, but for what it is told.
fn template_machine<'a>(plan: &'a Plan, engine: Engine, memory: &'a Path) -> Machine<'a> {
    Machine {
        engine,
        plan,
        name: "template",
        address: [0, 0, 0, 0].into(),
        scratch: None,
        memory: Memory::Saved(memory),
    }
}

/// Lets the machine behind `control` take in the state that it inherited as `descriptor`; it then runs by itself.
pub(crate) async fn resume(control: &mut Control, descriptor: RawFd) -> Result<(), QemuError> {
    leave_memory_out(control).await?;
    let parameters = json!({"announce-rounds": ANNOUNCEMENTS});
    control.execute("migrate-set-parameters", parameters).await?;
    let source = json!({"uri": format!("fd:{descriptor}")});
    control.execute("migrate-incoming", source).await.map(drop)
}

/// The saved state is that of the devices: memory is in its file.
async fn leave_memory_out(control: &mut Control) -> Result<(), QemuError> {
    let capabilities = json!({"capabilities": [{"capability": "x-ignore-shared", "state": true}]});
    control
        .execute("migrate-set-capabilities", capabilities)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Items, NETWORK_SLOT, USER_DATA_SLOT};

    #[test]
    fn items_have_one_size_or_do_not_fit() {
        let items = Items::fit(b"#cloud-config\n", b"{}").unwrap();
        assert_eq!(
            (items.user_data.len(), items.network.len()),
            (USER_DATA_SLOT, NETWORK_SLOT)
        );
        assert!(items.user_data.starts_with(b"#cloud-config\n\n"));
        assert!(Items::fit(&[b'x'; USER_DATA_SLOT + 1], b"{}").is_none());
        assert!(Items::blank().network.trim_ascii().is_empty());
    }
}
