//! A place for VMs: a network namespace with a bridge, and a state directory, gone after the test.

use std::{
    env,
    ffi::OsString,
    fs,
    future::Future,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use peerpods_provider::{InstanceId, OwnerScope, Provider, conformance::Place};
use peerpods_provider_qemu::{Accelerator, Placement, QemuProvider, QemuSettings, ScratchSettings};
use peerpods_testkit::namespaces::{devices, in_namespaces, make_bridge};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The longest that a test waits for anything.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Bed {
    state: TempDir,
    settings: QemuSettings,
}

/// The kernel and initrd to boot, or a line that says what is missing.
pub(crate) fn image() -> Option<(PathBuf, PathBuf)> {
    let file = |name| env::var_os(name).map(PathBuf::from);
    let image = file("PEERPODS_TEST_KERNEL").zip(file("PEERPODS_TEST_INITRD"));
    if image.is_none() {
        eprintln!("skipped: PEERPODS_TEST_KERNEL and PEERPODS_TEST_INITRD name no VM image to boot");
    }
    image
}

/// Runs a test in a network namespace of its own, on a thread of its own; skips it when there is no image.
pub(crate) fn with_bed<F: Future<Output = ()>>(test: impl FnOnce(Arc<Bed>) -> F + Send) {
    let Some((kernel, initrd)) = image() else { return };
    in_namespaces(|| async {
        let state = TempDir::with_prefix("peerpods-qemu-").unwrap();
        let settings = settings(state.path(), kernel, initrd);
        make_bridge(&settings.bridge).await;
        let bed = Arc::new(Bed { state, settings });
        test(bed.clone()).await;
        bed.assert_nothing_left().await;
    });
}

pub(crate) fn settings(state: &Path, kernel: PathBuf, initrd: PathBuf) -> QemuSettings {
    QemuSettings {
        state_dir: state.join("instances"),
        kernel,
        initrd,
        images_dir: state.join("images"),
        bridge: "bed0".to_owned(),
        pool: "10.250.0.100-10.250.0.103".parse().unwrap(),
        prefix_length: 24,
        gateway: [10, 250, 0, 1].into(),
        mtu: 9001,
        accelerator: Accelerator::Tcg,
        default_vcpus: 1,
        default_memory_mib: 512,
        scratch: Some(ScratchSettings {
            directory: state.join("scratch"),
            size_gib: NonZeroU32::MIN,
        }),
        template_dir: None,
        binary: "qemu-system-x86_64".into(),
        placement: Placement::Here,
    }
}

impl Bed {
    pub(crate) fn settings(&self) -> QemuSettings {
        self.settings.clone()
    }

    pub(crate) fn provider(&self) -> QemuProvider {
        QemuProvider::new(self.settings()).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.state.path()
    }

    pub(crate) fn directory(&self, id: &InstanceId) -> PathBuf {
        self.settings.state_dir.join(id.as_str())
    }

    /// The names of the instances' directories.
    pub(crate) fn directories(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.settings.state_dir)
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name.starts_with("qemu-"))
            .collect()
    }

    /// The processes that work in this bed's state directory.
    pub(crate) fn vms(&self) -> Vec<Pid> {
        let within = |pid: &i32| {
            let place = fs::read_link(format!("/proc/{pid}/cwd"));
            place.is_ok_and(|place| place.starts_with(&self.settings.state_dir))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(within);
        pids.filter_map(Pid::from_raw).collect()
    }

    /// The devices on the bridge.
    pub(crate) fn taps(&self) -> usize {
        devices("pp")
    }

    /// The scratch disks that the kernel has for this bed's VMs.
    pub(crate) fn disks(&self) -> usize {
        self.disk_names().count()
    }

    /// The scratch disk of the one VM.
    pub(crate) fn disk(&self) -> PathBuf {
        let name = self.disk_names().next().expect("a VM runs, and has a disk");
        Path::new("/dev").join(name)
    }

    fn disk_names(&self) -> impl Iterator<Item = OsString> {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let ours = |device: &fs::DirEntry| {
            let file = fs::read_to_string(device.path().join("loop/backing_file"));
            file.is_ok_and(|file| Path::new(&file).starts_with(self.state.path()))
        };
        devices.filter(ours).map(|device| device.file_name())
    }

    async fn assert_nothing_left(&self) {
        let scope = OwnerScope {
            cluster: "conformance".to_owned(),
            node: None,
        };
        assert_eq!(self.provider().list(&scope).await.unwrap(), []);
        assert_eq!(self.vms(), [], "a VM is left");
        until("the tap devices are gone", || self.taps() == 0).await;
        until("the scratch disks are gone", || self.disks() == 0).await;
        assert_eq!(self.directories(), [""; 0], "a directory is left");
    }
}

impl Drop for Bed {
    /// A failed test leaves no VM either.
    fn drop(&mut self) {
        for pid in self.vms() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[async_trait]
impl Place for Bed {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.provider())
    }

    async fn kill(&self, id: &InstanceId) {
        let directory = self.directory(id);
        let is_its = |pid: &&Pid| {
            let place = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
            place.is_ok_and(|place| place == directory)
        };
        kill_process(*self.vms().iter().find(is_its).unwrap(), Signal::KILL).unwrap();
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    peerpods_testkit::namespaces::until(what, WAIT_LIMIT, condition).await;
}
