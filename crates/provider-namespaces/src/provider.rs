//! The provider's calls, each under the state lock, each starting from what is on disk and what the kernel says.

use std::{fs, net::Ipv4Addr, os::unix::fs::MetadataExt, process::Stdio, time::Duration};

use async_trait::async_trait;
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
    local::{self, StateLock},
};
use tokio::process::Command;

use crate::{
    CONSOLE, LaunchOrder, NETWORK, NamespacesSettings, ORDER, USER_DATA,
    error::NamespacesError,
    instance::{InstanceDirectory, Presence, Record},
};

/// The longest that the launcher may take; usually a hundredth of a second.
const START_LIMIT: Duration = Duration::from_secs(10);
const LAUNCHER_LOG: &str = "launcher.log";

/// Launches guests in namespaces of this node.
#[derive(Debug)]
pub struct NamespacesProvider {
    settings: NamespacesSettings,
}

impl NamespacesProvider {
    /// Takes the settings and makes the state directory; guests that are there already are found again.
    pub fn new(settings: NamespacesSettings) -> Result<Self, ProviderError> {
        settings.check()?;
        local::make_private_directory(&settings.state_dir)
            .map_err(ProviderError::during("open", settings.state_dir.display()))?;
        tracing::warn!("guests run in namespaces of this node: nothing isolates them");
        Ok(Self { settings })
    }

    async fn lock(&self) -> Result<StateLock, NamespacesError> {
        Ok(StateLock::acquire(&self.settings.state_dir).await?)
    }

    async fn launch_locked(
        &self,
        lock: StateLock,
        request: &LaunchRequest,
    ) -> Result<Instance, ProviderError> {
        let failed = || ProviderError::during("launch", &request.token);
        let directory = InstanceDirectory::of_token(&self.settings, &request.token);
        match directory.presence().map_err(failed())? {
            Presence::Absent => {}
            Presence::Unfinished => directory.remove().map_err(failed())?,
            // One token never gets a second guest: whoever asks again learns from `describe` that it ended.
            Presence::Alive(record) | Presence::Ended(record) => return Ok(directory.instance(&record)),
        }
        let taken = self.clean_and_collect_addresses().map_err(failed())?;
        let address = self.settings.pool.free(&taken)?;
        let record = self.write_files(&directory, request, address).map_err(failed())?;
        let started = self.start(&directory, &lock).await;
        if started.is_err() {
            // The error says why; what stays would only hold the payload's secret until the next call.
            directory
                .cgroup
                .kill()
                .map_err(ProviderError::during("launch", &request.token))?;
            directory.remove().map_err(failed())?;
        }
        started.map_err(failed())?;
        tracing::info!(token = %record.token, address = %record.address, "guest started");
        Ok(directory.instance(&record))
    }

    /// Removes what crashes left, and answers which addresses are in use.
    fn clean_and_collect_addresses(&self) -> Result<Vec<Ipv4Addr>, NamespacesError> {
        let mut taken = Vec::new();
        for directory in InstanceDirectory::all(&self.settings)? {
            match directory.presence()? {
                Presence::Absent | Presence::Ended(_) => {}
                Presence::Unfinished => directory.remove()?,
                Presence::Alive(record) => taken.push(record.address),
            }
        }
        Ok(taken)
    }

    /// Makes the directory with everything that the launcher reads. The record comes last: with it, it counts.
    fn write_files(
        &self,
        directory: &InstanceDirectory,
        request: &LaunchRequest,
        address: Ipv4Addr,
    ) -> Result<Record, NamespacesError> {
        let (settings, path) = (&self.settings, directory.path());
        local::make_private_directory(path)?;
        let network = local::network_document(
            address,
            settings.prefix_length,
            settings.gateway,
            settings.mtu,
            None,
        );
        let order = LaunchOrder {
            guest: settings.guest.clone(),
            cgroup: directory.cgroup.path().to_owned(),
            bridge: settings.bridge.clone(),
            device: directory.device(),
            mac: mac_address(address),
            mtu: settings.mtu,
        };
        let order = serde_json::to_vec(&order).expect("an order is plain data");
        local::write_private(&path.join(NETWORK), network.as_bytes())?;
        local::write_private(&path.join(USER_DATA), &request.payload)?;
        local::write_private(&path.join(ORDER), &order)?;
        let record = Record {
            token: request.token.clone(),
            owner: request.owner.clone(),
            address,
        };
        local::write_record(path, &record)?;
        Ok(record)
    }

    /// Runs the launcher to its end. Dropped at any point, it leaves a launcher that still holds the lock, or none.
    async fn start(&self, directory: &InstanceDirectory, lock: &StateLock) -> Result<(), NamespacesError> {
        directory.cgroup.make()?;
        let log = directory.path().join(LAUNCHER_LOG);
        let log = fs::File::create(&log).map_err(NamespacesError::file("make", &log))?;
        let launcher = &self.settings.launcher;
        let mut child = Command::new(launcher)
            .current_dir(directory.path())
            .stdin(lock.share()?)
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(NamespacesError::file("run", launcher))?;
        let ended = tokio::time::timeout(START_LIMIT, child.wait()).await;
        let status = ended
            .map_err(|_| NamespacesError::NotStarted(START_LIMIT))?
            .map_err(NamespacesError::file("wait for", launcher))?;
        if !status.success() {
            let message = directory.tail(LAUNCHER_LOG);
            return Err(NamespacesError::Launcher { status, message });
        }
        // It holds a secret, and the guest has its copy.
        Ok(local::remove_file(&directory.path().join(USER_DATA))?)
    }

    /// Takes one step towards the end: whether there is nothing left.
    async fn end_step(&self, directory: &InstanceDirectory) -> Result<bool, NamespacesError> {
        let _lock = self.lock().await?;
        match directory.presence()? {
            Presence::Absent => Ok(true),
            Presence::Unfinished | Presence::Ended(_) => directory.remove().map(|()| true),
            Presence::Alive(_) => Ok(directory.cgroup.kill().map(|()| false)?),
        }
    }

    async fn claim_locked(
        &self,
        directory: &InstanceDirectory,
        id: &InstanceId,
        pod: &PodIdentity,
    ) -> Result<(), ProviderError> {
        let failed = || ProviderError::during("claim", id);
        let _lock = self.lock().await.map_err(failed())?;
        match directory.presence().map_err(failed())? {
            Presence::Alive(mut record) => {
                record.owner = record.owner.claimed_by(id, pod)?;
                let written = local::write_record(directory.path(), &record);
                written.map_err(ProviderError::during("claim", id))
            }
            Presence::Absent | Presence::Unfinished | Presence::Ended(_) => {
                Err(ProviderError::Ended(id.clone()))
            }
        }
    }

    async fn presence(&self, directory: &InstanceDirectory) -> Result<Presence, NamespacesError> {
        let _lock = self.lock().await?;
        directory.presence()
    }

    async fn list_locked(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, NamespacesError> {
        let _lock = self.lock().await?;
        let mut found = Vec::new();
        for directory in InstanceDirectory::all(&self.settings)? {
            match directory.presence()? {
                Presence::Alive(record) if scope.contains(&record.owner) => {
                    found.push(directory.owned(record));
                }
                Presence::Alive(_) | Presence::Absent | Presence::Unfinished | Presence::Ended(_) => {}
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Provider for NamespacesProvider {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        let lock = self.lock().await;
        let lock = lock.map_err(ProviderError::during("launch", &request.token))?;
        self.launch_locked(lock, request).await
    }

    /// Guests have no size: all are alike until their program is replaced.
    fn kind(&self, _shape: &Shape) -> Result<InstanceKind, ProviderError> {
        let guest = &self.settings.guest;
        let file = fs::metadata(guest)
            .map_err(local::LocalError::file("read", guest))
            .map_err(ProviderError::during("tell the kind of", "a guest"))?;
        let (size, seconds, nanoseconds) = (file.len(), file.mtime(), file.mtime_nsec());
        Ok(InstanceKind::new(format!("{size} {seconds}.{nanoseconds:09}")))
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, _name: &str) -> Result<(), ProviderError> {
        let directory =
            InstanceDirectory::of_id(&self.settings, id).ok_or_else(|| ProviderError::Ended(id.clone()))?;
        self.claim_locked(&directory, id, pod).await
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        let directory = InstanceDirectory::of_token(&self.settings, token);
        let presence = self.presence(&directory).await;
        Ok(match presence.map_err(ProviderError::during("find", token))? {
            Presence::Alive(record) => Some(directory.instance(&record)),
            Presence::Absent | Presence::Unfinished | Presence::Ended(_) => None,
        })
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        let Some(directory) = InstanceDirectory::of_id(&self.settings, id) else {
            return Ok(InstanceStatus::Gone("no such instance".to_owned()));
        };
        let presence = self.presence(&directory).await;
        Ok(match presence.map_err(ProviderError::during("describe", id))? {
            Presence::Alive(_) => InstanceStatus::Alive,
            Presence::Absent => InstanceStatus::Gone("no such instance".to_owned()),
            Presence::Unfinished => InstanceStatus::Gone("the guest never started".to_owned()),
            Presence::Ended(_) => {
                InstanceStatus::Gone(format!("the guest ended: {}", directory.tail(CONSOLE)))
            }
        })
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let Some(directory) = InstanceDirectory::of_id(&self.settings, id) else {
            return Ok(());
        };
        local::terminate(id, || self.end_step(&directory)).await
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.list_locked(scope)
            .await
            .map_err(ProviderError::during("list", &scope.cluster))
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        let directory = InstanceDirectory::of_id(&self.settings, id)?;
        directory.path().exists().then(|| directory.tail(CONSOLE))
    }
}

/// A locally administered address from the guest's IP address: the same for the next guest with this IP address, so that
/// no neighbour's cache goes stale. The second byte tells it from those of other local providers.
fn mac_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x51, a, b, c, d]
}
