//! The provider's calls, each under the state lock, each starting from what is on disk.

use std::{
    net::Ipv4Addr,
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use peerpods_error::chain;
use peerpods_provider::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
    local::{self, StateLock},
};
use rustix::{
    process::{Pid, Resource, Rlimit, prlimit},
    rand::GetRandomFlags,
};
use tokio::sync::OnceCell;

use crate::{
    Accelerator, QemuSettings, accelerator, console,
    error::QemuError,
    instance::{InstanceDirectory, Phase, Presence, Record},
    lock,
    machine::{ENTROPY_FILE, Engine, Machine, Memory, NETWORK_FILE, mac_address},
    process,
    qmp::{self, Activity, Control},
    shape::{self, Plan},
    spawn::spawn,
    template::{self, ENTROPY_BYTES, Items, Template},
};

/// The longest from QEMU's start to its main loop; usually a tenth of a second.
const START_LIMIT: Duration = Duration::from_secs(15);

/// The longest from a kill to the end; giving a large VM's memory back takes a while.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How often to look while waiting for either.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What a kernel says when it gives up.
const KERNEL_PANIC: &str = "Kernel panic";

/// How many console lines the reason of an end quotes.
const REASON_LINES: usize = 5;

/// Launches peer pod VMs as QEMU processes on this machine.
#[derive(Debug)]
pub struct QemuProvider {
    settings: QemuSettings,
    engine: OnceCell<Engine>,
}

/// One launch.
struct Order<'a> {
    request: &'a LaunchRequest,
    plan: &'a Plan,
    engine: Engine,
    address: Ipv4Addr,
}

/// What a VM is resumed from, and what it is told then.
struct Resumption {
    template: Template,
    items: Items,
}

/// Whether the call that launched a VM goes on, or the VM is what it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launcher {
    Here,
    Gone,
}

/// What a VM that is being started does.
enum Look {
    Runs,
    /// It waits for a state that nobody gives it.
    Waits,
}

/// What a directory holds when nothing is in between any more.
enum Settled {
    Nothing,
    Alive(Record),
    Ended(Record),
}

impl Settled {
    fn alive(self) -> Option<Record> {
        match self {
            Self::Alive(record) => Some(record),
            Self::Nothing | Self::Ended(_) => None,
        }
    }
}

impl QemuProvider {
    /// Takes the settings and makes the state directory; VMs that are there already are found again.
    pub fn new(settings: QemuSettings) -> Result<Self, ProviderError> {
        settings.check()?;
        local::make_private_directory(&settings.state_dir)
            .map_err(ProviderError::during("open", settings.state_dir.display()))?;
        Ok(Self {
            settings,
            engine: OnceCell::new(),
        })
    }

    /// Finds out how guests run here, which the first launch does otherwise and may then take long, and saves a VM for
    /// others to be resumed from, where the settings ask for that. To be repeated now and then: another image or QEMU
    /// needs another template.
    pub async fn prepare(&self) -> Result<(), ProviderError> {
        let engine = self
            .engine()
            .await
            .map_err(ProviderError::during("probe", "KVM"))?;
        match &self.settings.template_dir {
            Some(root) => {
                let prepared = self.prepare_template(root, engine).await;
                prepared.map_err(ProviderError::during("save", "a VM to resume others from"))
            }
            None => Ok(()),
        }
    }

    async fn engine(&self) -> Result<Engine, QemuError> {
        match self.settings.accelerator {
            Accelerator::Kvm => Ok(Engine::Kvm),
            Accelerator::Tcg => Ok(Engine::Tcg),
            Accelerator::Auto => self
                .engine
                .get_or_try_init(|| accelerator::probe(&self.settings))
                .await
                .copied(),
        }
    }

    async fn lock(&self) -> Result<StateLock, QemuError> {
        Ok(StateLock::acquire(&self.settings.state_dir).await?)
    }

    /// What is in `directory` once a launch that was cut off has been completed or cleaned away.
    async fn settle(&self, directory: &InstanceDirectory) -> Result<Settled, QemuError> {
        match directory.presence()? {
            Presence::Absent => Ok(Settled::Nothing),
            Presence::Unfinished => directory.remove().map(|()| Settled::Nothing),
            Presence::Alive(record) => Ok(Settled::Alive(record)),
            Presence::Ended(record) => Ok(Settled::Ended(record)),
            Presence::Starting(record) => {
                match self.complete_start(directory, record, Launcher::Gone).await {
                    Ok(record) => Ok(Settled::Alive(record)),
                    Err(QemuError::Ended(_) | QemuError::CutOff) => {
                        directory.remove().map(|()| Settled::Nothing)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn launch_locked(
        &self,
        request: &LaunchRequest,
        plan: &Plan,
        engine: Engine,
    ) -> Result<Instance, ProviderError> {
        let failed = || ProviderError::during("launch", &request.token);
        let directory = InstanceDirectory::of_token(&self.settings.state_dir, &request.token);
        match self.settle(&directory).await.map_err(failed())? {
            Settled::Nothing => {}
            // One token never gets a second VM: whoever asks again learns from `describe` that it ended.
            Settled::Alive(record) | Settled::Ended(record) => return Ok(directory.instance(&record)),
        }
        let taken = self.clean_and_collect_addresses().map_err(failed())?;
        let address = self.settings.pool.free(&taken)?;
        let order = Order {
            request,
            plan,
            engine,
            address,
        };
        if let Some(resumption) = self.resumption(&order) {
            match self.start_settled(&directory, &order, Some(&resumption)).await {
                Ok(instance) => return Ok(instance),
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "VMs are not resumed but booted, for a while"
                    );
                    resumption.template.reject().map_err(failed())?;
                }
            }
        }
        self.start_settled(&directory, &order, None)
            .await
            .map_err(failed())
    }

    /// How the VM can be resumed, where there is a template and what the VM is told fits.
    fn resumption(&self, order: &Order<'_>) -> Option<Resumption> {
        let root = self.settings.template_dir.as_ref()?;
        let template = Template::of(root, &self.settings, order.plan, order.engine).ok()?;
        if template.presence() != template::Presence::Usable {
            return None;
        }
        let items = Items::fit(&order.request.payload, self.network(order.address).as_bytes())?;
        Some(Resumption { template, items })
    }

    /// Starts the VM, or leaves nothing of it.
    async fn start_settled(
        &self,
        directory: &InstanceDirectory,
        order: &Order<'_>,
        resumption: Option<&Resumption>,
    ) -> Result<Instance, QemuError> {
        let record = self.write_files(directory, order, resumption)?;
        let template = resumption.map(|resumption| &resumption.template);
        let started = self.start(directory, record, order, template).await;
        if started.is_err() {
            // The error says why; what stays would only hold the payload's secret until the next call.
            self.settle(directory).await?;
        }
        started
    }

    /// Has a template built where there is none for VMs of the default size. That there is none only costs time.
    async fn prepare_template(&self, root: &Path, engine: Engine) -> Result<(), QemuError> {
        let Ok(plan) = shape::plan(&self.settings, &Shape::default()) else {
            // Its first launch tells why.
            return Ok(());
        };
        let template = Template::of(root, &self.settings, &plan, engine)?;
        if template.presence() != template::Presence::Missing {
            return Ok(());
        }
        let built = template::build(&template, &self.settings, &plan, engine).await;
        if built.is_err() {
            template.reject()?;
        }
        built
    }

    fn network(&self, address: Ipv4Addr) -> String {
        let settings = &self.settings;
        let mac = mac_address(address);
        local::network_document(
            address,
            settings.prefix_length,
            settings.gateway,
            settings.mtu,
            Some(&mac),
        )
    }

    /// Removes what crashes and ended VMs left, and answers which addresses are in use.
    fn clean_and_collect_addresses(&self) -> Result<Vec<Ipv4Addr>, QemuError> {
        let mut taken = Vec::new();
        for directory in InstanceDirectory::all(&self.settings.state_dir)? {
            match directory.presence()? {
                Presence::Absent => {}
                Presence::Unfinished => directory.remove()?,
                Presence::Ended(_) if directory.is_stale() => directory.remove()?,
                Presence::Ended(_) => {}
                Presence::Starting(record) | Presence::Alive(record) => taken.push(record.address),
            }
        }
        Ok(taken)
    }

    /// Makes the directory with everything that QEMU reads. The record comes last: with it, it counts.
    fn write_files(
        &self,
        directory: &InstanceDirectory,
        order: &Order<'_>,
        resumption: Option<&Resumption>,
    ) -> Result<Record, QemuError> {
        let path = directory.path();
        local::make_private_directory(path)?;
        match resumption {
            Some(resumption) => {
                let mut entropy = [0; ENTROPY_BYTES];
                rustix::rand::getrandom(&mut entropy, GetRandomFlags::empty())
                    .map_err(|error| QemuError::file("fill", path.join(ENTROPY_FILE))(error.into()))?;
                resumption.items.write(path, &entropy)?;
            }
            None => {
                let network = self.network(order.address);
                local::write_private(&path.join(NETWORK_FILE), network.as_bytes())?;
                local::write_private(&directory.user_data(), &order.request.payload)?;
            }
        }
        let record = Record {
            token: order.request.token.clone(),
            owner: order.request.owner.clone(),
            address: order.address,
            phase: Phase::Prepared,
        };
        directory.write_record(&record)?;
        Ok(record)
    }

    /// Starts QEMU and waits until the VM runs. Dropped at any point, it leaves what `settle` understands.
    async fn start(
        &self,
        directory: &InstanceDirectory,
        record: Record,
        order: &Order<'_>,
        template: Option<&Template>,
    ) -> Result<Instance, QemuError> {
        let memory = template.map(Template::memory);
        let state = template.map(Template::open_state).transpose()?;
        let descriptor = state.as_ref().map(AsRawFd::as_raw_fd);
        let machine = Machine {
            engine: order.engine,
            plan: order.plan,
            name: &order.request.name,
            address: record.address,
            scratch: None,
            memory: memory.as_deref().map_or(Memory::Empty, Memory::Resumed),
        };
        let tap = directory.tap();
        let mut child = spawn(&self.settings, directory.path(), &tap, machine, state).await?;
        limit_files(child.id());
        // While this program lives it is the parent and must collect the exit status; nobody waits for it.
        tokio::spawn(async move { child.wait().await });

        if let Some(descriptor) = descriptor {
            let path = directory.path();
            let mut control = self.until_started(directory, || Control::open(path)).await?;
            template::resume(&mut control, descriptor).await?;
        }
        let record = self.complete_start(directory, record, Launcher::Here).await?;
        let start = if template.is_some() { "resumed" } else { "booting" };
        tracing::info!(token = %record.token, address = %record.address, engine = ?order.engine, start, "VM started");
        Ok(directory.instance(&record))
    }

    /// Waits until the VM runs, and records that it does. A VM that ended meanwhile never was one.
    async fn complete_start(
        &self,
        directory: &InstanceDirectory,
        mut record: Record,
        launcher: Launcher,
    ) -> Result<Record, QemuError> {
        let path = directory.path();
        let look = || async move {
            match (Control::open(path).await?.activity().await?, launcher) {
                (Activity::Running, _) => Ok(Look::Runs),
                (Activity::Incoming, Launcher::Here) => Err(QemuError::NotStarted(START_LIMIT)),
                // Nobody gives it its state any more.
                (Activity::Incoming, Launcher::Gone) => Ok(Look::Waits),
            }
        };
        if let Look::Waits = self.until_started(directory, look).await? {
            self.kill(directory).await?;
            return Err(QemuError::CutOff);
        }
        // The payload holds a secret, and QEMU has read it.
        directory.remove_user_data()?;
        record.phase = Phase::Started;
        directory.write_record(&record)?;
        Ok(record)
    }

    /// Tries again until QEMU has come so far, has ended, or the time is up.
    async fn until_started<T, F>(
        &self,
        directory: &InstanceDirectory,
        attempt: impl Fn() -> F + Send,
    ) -> Result<T, QemuError>
    where
        F: Future<Output = Result<T, QemuError>> + Send,
    {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if let Ok(Ok(answer)) = tokio::time::timeout(remaining, attempt()).await {
                return Ok(answer);
            }
            if !lock::is_held(&directory.alive())? {
                return Err(QemuError::Ended(
                    local::tail(&directory.qemu_log()).trim().to_owned(),
                ));
            }
            if remaining.is_zero() {
                self.kill(directory).await?;
                return Err(QemuError::NotStarted(START_LIMIT));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Kills the VM's process, and waits until the kernel has taken it away.
    async fn kill(&self, directory: &InstanceDirectory) -> Result<(), QemuError> {
        let deadline = Instant::now() + END_LIMIT;
        while lock::is_held(&directory.alive())? && Instant::now() < deadline {
            process::kill_holder(&directory.alive())?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Takes one step towards the end: whether there is nothing left.
    async fn end_step(&self, directory: &InstanceDirectory) -> Result<bool, QemuError> {
        let _lock = self.lock().await?;
        match directory.presence()? {
            Presence::Absent => Ok(true),
            Presence::Unfinished | Presence::Ended(_) => directory.remove().map(|()| true),
            Presence::Starting(_) | Presence::Alive(_) => {
                process::kill_holder(&directory.alive())?;
                Ok(false)
            }
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
        let living = self.settle(directory).await.map_err(failed())?.alive();
        let mut record = living.ok_or_else(|| ProviderError::Ended(id.clone()))?;
        record.owner = record.owner.claimed_by(id, pod)?;
        directory.write_record(&record).map_err(failed())
    }

    async fn find_locked(&self, token: &LaunchToken) -> Result<Option<Instance>, QemuError> {
        let _lock = self.lock().await?;
        let directory = InstanceDirectory::of_token(&self.settings.state_dir, token);
        Ok(self
            .settle(&directory)
            .await?
            .alive()
            .map(|record| directory.instance(&record)))
    }

    async fn describe_locked(&self, directory: &InstanceDirectory) -> Result<InstanceStatus, QemuError> {
        let _lock = self.lock().await?;
        Ok(match directory.presence()? {
            Presence::Alive(_) | Presence::Starting(_) => {
                console::cut(&directory.console());
                InstanceStatus::Alive
            }
            Presence::Absent => InstanceStatus::Gone("no such VM".to_owned()),
            Presence::Unfinished => InstanceStatus::Gone("the VM never started".to_owned()),
            Presence::Ended(_) => InstanceStatus::Gone(reason(directory)),
        })
    }

    async fn list_locked(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, QemuError> {
        let _lock = self.lock().await?;
        let mut found = Vec::new();
        for directory in InstanceDirectory::all(&self.settings.state_dir)? {
            let living = self.settle(&directory).await?.alive();
            if let Some(record) = living.filter(|record| scope.contains(&record.owner)) {
                console::cut(&directory.console());
                found.push(directory.owned(record));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Provider for QemuProvider {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        let plan = shape::plan(&self.settings, &request.shape)?;
        let engine = self
            .engine()
            .await
            .map_err(ProviderError::during("launch", &request.token))?;
        let _lock = self
            .lock()
            .await
            .map_err(ProviderError::during("launch", &request.token))?;
        self.launch_locked(request, &plan, engine).await
    }

    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError> {
        let settings = &self.settings;
        let files = shape::plan(settings, shape)?
            .description()
            .map_err(ProviderError::during("tell the kind of", "a VM"))?;
        Ok(InstanceKind::new(format!(
            "{files}, on {} to {}/{} with MTU {}",
            settings.bridge, settings.gateway, settings.prefix_length, settings.mtu
        )))
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, _name: &str) -> Result<(), ProviderError> {
        let directory = InstanceDirectory::of_id(&self.settings.state_dir, id)
            .ok_or_else(|| ProviderError::Ended(id.clone()))?;
        self.claim_locked(&directory, id, pod).await
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        self.find_locked(token)
            .await
            .map_err(ProviderError::during("find", token))
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        let Some(directory) = InstanceDirectory::of_id(&self.settings.state_dir, id) else {
            return Ok(InstanceStatus::Gone("no such VM".to_owned()));
        };
        self.describe_locked(&directory)
            .await
            .map_err(ProviderError::during("describe", id))
    }

    async fn ended(&self, id: &InstanceId) {
        if let Some(directory) = InstanceDirectory::of_id(&self.settings.state_dir, id) {
            qmp::ended(directory.path()).await;
            // QEMU closes its sockets, and then ends.
            let deadline = Instant::now() + END_LIMIT;
            while lock::is_held(&directory.alive()).unwrap_or(false) && Instant::now() < deadline {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let Some(directory) = InstanceDirectory::of_id(&self.settings.state_dir, id) else {
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
        let directory = InstanceDirectory::of_id(&self.settings.state_dir, id)?;
        if !directory.path().exists() {
            return None;
        }
        let mut text = console::tail(&directory.console());
        for line in console::tail(&directory.qemu_log()).lines() {
            text.push_str(&format!("QEMU: {line}\n"));
        }
        Some(text)
    }
}

/// The cause of an end, as far as the console and QEMU tell it.
fn reason(directory: &InstanceDirectory) -> String {
    let quote = |text: String| {
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        // What a panicking kernel says before it counts; the registers that follow do not.
        if let Some(panic) = lines.iter().position(|line| line.contains(KERNEL_PANIC)) {
            lines.truncate(panic + 1);
        }
        lines[lines.len().saturating_sub(REASON_LINES)..].join(" | ")
    };
    let console = quote(console::tail(&directory.console()));
    let log = quote(console::tail(&directory.qemu_log()));
    match (console.is_empty(), log.is_empty()) {
        (true, true) => "the VM ended without a word".to_owned(),
        (false, true) => format!("the VM ended; its console: {console}"),
        (true, false) => format!("the VM ended; QEMU: {log}"),
        (false, false) => format!("the VM ended; its console: {console}; QEMU: {log}"),
    }
}

/// Bounds what the guest can make QEMU write. A VM that is gone already needs no bound.
fn limit_files(pid: Option<u32>) {
    let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let limit = Rlimit {
        current: Some(console::LIMIT_BYTES),
        maximum: Some(console::LIMIT_BYTES),
    };
    if let Some(Err(error)) = pid.map(|pid| prlimit(Some(pid), Resource::Fsize, limit)) {
        tracing::warn!(%error, "cannot bound a VM's console");
    }
}
