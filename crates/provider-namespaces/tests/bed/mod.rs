//! A place for guests: network and mount namespaces with a bridge and a control group, gone after the test.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use peerpods_provider::{InstanceId, OwnerScope, Provider, conformance::Place};
use peerpods_provider_namespaces::{NamespacesProvider, NamespacesSettings};
use peerpods_testkit::namespaces::{devices, in_namespaces, make_bridge};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// The longest that a test waits for anything.
const WAIT_LIMIT: Duration = Duration::from_secs(20);
const BRIDGE: &str = "bed0";

pub(crate) struct Bed {
    state: TempDir,
    cgroup: PathBuf,
    settings: NamespacesSettings,
}

/// Runs a test in namespaces of its own, on a thread of its own; without root it says so and passes.
pub(crate) fn with_bed<F: Future<Output = ()>>(test: impl FnOnce(Arc<Bed>) -> F + Send) {
    in_namespaces(|| async {
        let bed = Arc::new(Bed::new().await);
        test(bed.clone()).await;
        bed.assert_nothing_left().await;
    });
}

impl Bed {
    async fn new() -> Self {
        let state = TempDir::with_prefix("peerpods-namespaces-").unwrap();
        let hierarchy = state.path().join("cgroup");
        fs::create_dir(&hierarchy).unwrap();
        mount("cgroup2", &hierarchy, "cgroup2", MountFlags::empty(), None).unwrap();
        let cgroup = hierarchy.join(state.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        make_bridge(BRIDGE).await;
        let settings = NamespacesSettings {
            state_dir: state.path().join("instances"),
            cgroup: cgroup.clone(),
            guest: env!("CARGO_BIN_EXE_peerpods-waiting-guest").into(),
            launcher: env!("CARGO_BIN_EXE_peerpods-namespaces-launcher").into(),
            bridge: BRIDGE.to_owned(),
            pool: "10.250.0.201-10.250.0.204".parse().unwrap(),
            prefix_length: 24,
            gateway: [10, 250, 0, 1].into(),
            mtu: 9001,
        };
        Self {
            state,
            cgroup,
            settings,
        }
    }

    pub(crate) fn settings(&self) -> NamespacesSettings {
        self.settings.clone()
    }

    pub(crate) fn provider(&self) -> NamespacesProvider {
        NamespacesProvider::new(self.settings()).unwrap()
    }

    pub(crate) fn directory(&self, id: &InstanceId) -> PathBuf {
        self.settings.state_dir.join(id.as_str())
    }

    /// The devices on the bridge.
    pub(crate) fn devices(&self) -> usize {
        devices("pn")
    }

    async fn assert_nothing_left(&self) {
        let scope = OwnerScope {
            cluster: "conformance".to_owned(),
            node: None,
        };
        assert_eq!(self.provider().list(&scope).await.unwrap(), []);
        until("the devices are gone", || self.devices() == 0).await;
        assert_eq!(folders(&self.cgroup), [""; 0], "a control group is left");
        assert_eq!(folders(&self.settings.state_dir), [""; 0], "a directory is left");
    }
}

impl Drop for Bed {
    /// A failed test leaves no process and no control group either.
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let deadline = Instant::now() + WAIT_LIMIT;
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < deadline {
            for name in folders(&self.cgroup) {
                let _ = fs::remove_dir(self.cgroup.join(name));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // It lies in the temporary directory, which goes next.
        let _ = unmount(self.state.path().join("cgroup"), UnmountFlags::DETACH);
    }
}

#[async_trait]
impl Place for Bed {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.provider())
    }

    async fn kill(&self, id: &InstanceId) {
        fs::write(self.cgroup.join(id.as_str()).join("cgroup.kill"), "1").unwrap();
    }
}

fn folders(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    peerpods_testkit::namespaces::until(what, WAIT_LIMIT, condition).await;
}
