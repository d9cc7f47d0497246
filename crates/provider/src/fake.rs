//! A provider in memory, for tests of what uses providers.
//!
//! It keeps every promise of the contract and can be made to misbehave as real ones do: [`FakeProvider::fail_next`]
//! queues faults, each of which strikes the next call of its kind once.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    Instance, InstanceId, InstanceKind, InstanceStatus, LaunchRequest, LaunchToken, OwnedInstance,
    OwnerScope, PodIdentity, Provider, ProviderError, Shape,
};

/// Instances answer at documentation addresses (RFC 5737) unless told otherwise, which nobody can reach.
const ADDRESS_PREFIX: [u8; 3] = [192, 0, 2];

/// One of the provider's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Provider::launch`]
    Launch,
    /// [`Provider::claim`]
    Claim,
    /// [`Provider::find`]
    Find,
    /// [`Provider::describe`]
    Describe,
    /// [`Provider::terminate`]
    Terminate,
    /// [`Provider::list`]
    List,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Claim => "claim",
            Self::Find => "find",
            Self::Describe => "describe",
            Self::Terminate => "terminate",
            Self::List => "list",
        }
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call takes effect and then its answer is lost.
    LoseReply,
    /// The call fails on the way and has no effect.
    LoseRequest,
    /// The call is refused because there were too many.
    Throttle,
    /// The call is refused because there is no room.
    Capacity,
    /// The call is refused because it is not permitted.
    Deny,
    /// The call is refused because it can never succeed.
    Invalid,
    /// The instance does not end in the time allowed; it lives on.
    StillAlive,
    /// The call waits this long and then succeeds.
    Slow(Duration),
}

/// A provider in memory. Clones share their instances, like two handles on one cloud.
#[derive(Clone, Debug, Default)]
pub struct FakeProvider {
    cloud: Arc<Mutex<Cloud>>,
    /// Told of every end and every announcement.
    changes: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Cloud {
    instances: BTreeMap<InstanceId, FakeInstance>,
    faults: VecDeque<(Call, Fault)>,
    calls: Vec<Call>,
    launched: usize,
    addresses: Addresses,
    image: u32,
    batch_limit: usize,
}

/// Where instances answer.
#[derive(Debug, Default)]
enum Addresses {
    /// Nowhere that anybody could reach.
    #[default]
    Documentation,
    /// All at the same.
    At(IpAddr),
    /// Each at a loopback address of its own.
    Loopback,
}

#[derive(Debug)]
struct FakeInstance {
    request: LaunchRequest,
    instance: Instance,
    life: Life,
    /// What was announced of its end.
    announced: Option<String>,
    console: String,
}

#[derive(Debug)]
enum Life {
    Alive,
    Ended(String),
}

impl FakeInstance {
    fn is_alive(&self) -> bool {
        matches!(self.life, Life::Alive)
    }

    fn owned(&self) -> OwnedInstance {
        OwnedInstance {
            instance: self.instance.clone(),
            token: self.request.token.clone(),
            owner: self.request.owner.clone(),
        }
    }
}

impl Cloud {
    fn living(&self) -> impl Iterator<Item = &FakeInstance> {
        self.instances.values().filter(|instance| instance.is_alive())
    }

    fn of_token(&self, token: &LaunchToken) -> impl Iterator<Item = &FakeInstance> {
        let all = self.instances.values();
        all.filter(move |instance| instance.request.token == *token)
    }

    fn living_of_token(&self, token: &LaunchToken) -> Vec<Instance> {
        let living = self.of_token(token).filter(|found| found.is_alive());
        living.map(|found| found.instance.clone()).collect()
    }

    fn launch(&mut self, request: &LaunchRequest, count: usize) -> Vec<Instance> {
        let existing: Vec<Instance> = self
            .of_token(&request.token)
            .map(|found| found.instance.clone())
            .collect();
        if !existing.is_empty() {
            return existing;
        }
        (0..count.clamp(1, self.batch_limit.max(1)))
            .map(|_| self.make(request))
            .collect()
    }

    fn make(&mut self, request: &LaunchRequest) -> Instance {
        self.launched += 1;
        let host = u8::try_from(self.launched % 254 + 1).unwrap_or(1);
        let address = match self.addresses {
            Addresses::Documentation => {
                let [a, b, c] = ADDRESS_PREFIX;
                Ipv4Addr::new(a, b, c, host).into()
            }
            Addresses::At(address) => address,
            Addresses::Loopback => Ipv4Addr::new(127, 0, 0, host).into(),
        };
        let instance = Instance {
            id: InstanceId::new(format!("fake-{:04}", self.launched)),
            addresses: vec![address],
            machine_type: request.shape.machine_type.clone(),
        };
        self.instances.insert(
            instance.id.clone(),
            FakeInstance {
                request: request.clone(),
                instance: instance.clone(),
                life: Life::Alive,
                announced: None,
                console: format!("{} starts\n", instance.id),
            },
        );
        instance
    }

    fn claim(&mut self, id: &InstanceId, pod: &PodIdentity) -> Result<(), ProviderError> {
        let claimed = self
            .instances
            .get_mut(id)
            .filter(|instance| instance.is_alive())
            .ok_or_else(|| ProviderError::Ended(id.clone()))?;
        claimed.request.owner = claimed.request.owner.claimed_by(id, pod)?;
        Ok(())
    }

    fn end(&mut self, id: &InstanceId, reason: &str) {
        if let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.is_alive()) {
            instance.life = Life::Ended(reason.to_owned());
        }
    }
}

impl FakeProvider {
    /// A provider without instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fault` strike the next `call` that no earlier fault strikes.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.cloud().faults.push_back((call, fault));
    }

    /// All later instances answer at `address`, where a test listens.
    pub fn answer_at(&self, address: IpAddr) {
        self.cloud().addresses = Addresses::At(address);
    }

    /// Each later instance answers at a loopback address of its own, where a test's guest listens.
    pub fn answer_on_loopback(&self) {
        self.cloud().addresses = Addresses::Loopback;
    }

    /// From now on one call launches up to `limit` instances.
    pub fn launch_in_batches(&self, limit: usize) {
        self.cloud().batch_limit = limit;
    }

    /// The living instances.
    pub fn instances(&self) -> Vec<OwnedInstance> {
        self.cloud().living().map(FakeInstance::owned).collect()
    }

    /// How many instances were ever made.
    pub fn launched(&self) -> usize {
        self.cloud().launched
    }

    /// The calls so far, in order; the refused ones too.
    pub fn calls(&self) -> Vec<Call> {
        self.cloud().calls.clone()
    }

    /// What an instance was launched with: its shape, and the payload that its guest would read.
    pub fn request(&self, id: &InstanceId) -> Option<LaunchRequest> {
        self.cloud()
            .instances
            .get(id)
            .map(|instance| instance.request.clone())
    }

    /// Replaces the image of VMs, so that later instances are of other kinds.
    pub fn replace_image(&self) {
        self.cloud().image += 1;
    }

    /// Ends an instance from outside, as a crash or a spot interruption does.
    pub fn kill(&self, id: &InstanceId) {
        self.cloud().end(id, "the instance was killed from outside");
        self.changes.notify_waiters();
    }

    /// Announces that an instance will be taken back, as for spot instances; it lives on until it is killed.
    pub fn interrupt(&self, id: &InstanceId, words: &str) {
        if let Some(instance) = self.cloud().instances.get_mut(id) {
            instance.announced = Some(words.to_owned());
        }
        self.changes.notify_waiters();
    }

    /// Lets an instance write on its console.
    pub fn write_console(&self, id: &InstanceId, text: &str) {
        if let Some(instance) = self.cloud().instances.get_mut(id) {
            instance.console.push_str(text);
        }
    }

    /// What `seen` finds, now or after some change.
    async fn once<T>(&self, seen: impl Fn(&Cloud) -> Option<T> + Send) -> T {
        loop {
            let change = self.changes.notified();
            let mut change = std::pin::pin!(change);
            // From here on no change is missed.
            change.as_mut().enable();
            let found = seen(&self.cloud());
            if let Some(found) = found {
                return found;
            }
            change.await;
        }
    }

    fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs a call with the fault that is queued for it, if any. Never holds the lock while waiting.
    async fn perform<T>(
        &self,
        call: Call,
        subject: &str,
        effect: impl FnOnce(&mut Cloud) -> T,
    ) -> Result<T, ProviderError> {
        let action = call.name();
        let lost = |message: &str| ProviderError::Failed {
            action,
            subject: subject.to_owned(),
            source: message.into(),
        };
        let fault = {
            let mut cloud = self.cloud();
            cloud.calls.push(call);
            let position = cloud.faults.iter().position(|(struck, _)| *struck == call);
            position.and_then(|index| cloud.faults.remove(index))
        };
        match fault.map(|(_, fault)| fault) {
            None => {}
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::LoseReply) => {
                effect(&mut self.cloud());
                return Err(lost("the reply was lost"));
            }
            Some(Fault::LoseRequest) => return Err(lost("the request was lost")),
            Some(Fault::Throttle) => return Err(ProviderError::Throttled { action }),
            Some(Fault::Capacity) => {
                return Err(ProviderError::Capacity("the fake cloud is full".to_owned()));
            }
            Some(Fault::Deny) => {
                return Err(ProviderError::Denied {
                    action,
                    message: "the fake cloud says no".to_owned(),
                });
            }
            Some(Fault::Invalid) => {
                return Err(ProviderError::InvalidRequest(
                    "the fake cloud has no such thing".to_owned(),
                ));
            }
            Some(Fault::StillAlive) => return Err(ProviderError::StillAlive(InstanceId::new(subject))),
        }
        // A cancelled call stops here at the latest: what follows happens at once.
        tokio::task::yield_now().await;
        Ok(effect(&mut self.cloud()))
    }
}

#[async_trait]
impl Provider for FakeProvider {
    async fn launch(&self, request: &LaunchRequest) -> Result<Instance, ProviderError> {
        self.perform(Call::Launch, request.token.as_str(), |cloud| {
            cloud.launch(request, 1).remove(0)
        })
        .await
    }

    fn batch_limit(&self) -> usize {
        self.cloud().batch_limit.max(1)
    }

    async fn launch_together(
        &self,
        request: &LaunchRequest,
        count: usize,
    ) -> Result<Vec<Instance>, ProviderError> {
        self.perform(Call::Launch, request.token.as_str(), |cloud| {
            cloud.launch(request, count)
        })
        .await
    }

    fn kind(&self, shape: &Shape) -> Result<InstanceKind, ProviderError> {
        let image = self.cloud().image;
        Ok(InstanceKind::new(format!("{shape:?} of image {image}")))
    }

    async fn claim(&self, id: &InstanceId, pod: &PodIdentity, _name: &str) -> Result<(), ProviderError> {
        self.perform(Call::Claim, id.as_str(), |cloud| cloud.claim(id, pod))
            .await?
    }

    async fn find(&self, token: &LaunchToken) -> Result<Option<Instance>, ProviderError> {
        let found = self.find_all(token).await?;
        Ok(found.into_iter().next())
    }

    async fn find_all(&self, token: &LaunchToken) -> Result<Vec<Instance>, ProviderError> {
        self.perform(Call::Find, token.as_str(), |cloud| cloud.living_of_token(token))
            .await
    }

    async fn describe(&self, id: &InstanceId) -> Result<InstanceStatus, ProviderError> {
        self.perform(Call::Describe, id.as_str(), |cloud| {
            match cloud.instances.get(id).map(|found| &found.life) {
                Some(Life::Alive) => InstanceStatus::Alive,
                Some(Life::Ended(reason)) => InstanceStatus::Gone(reason.clone()),
                None => InstanceStatus::Gone("no such instance".to_owned()),
            }
        })
        .await
    }

    async fn ended(&self, id: &InstanceId) {
        let ended = |cloud: &Cloud| !cloud.living().any(|living| living.instance.id == *id);
        self.once(|cloud| ended(cloud).then_some(())).await
    }

    async fn interruption(&self, id: &InstanceId) -> String {
        self.once(|cloud| cloud.instances.get(id)?.announced.clone())
            .await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), ProviderError> {
        self.perform(Call::Terminate, id.as_str(), |cloud| {
            cloud.end(id, "the instance was terminated")
        })
        .await?;
        self.changes.notify_waiters();
        Ok(())
    }

    async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        self.perform(Call::List, &scope.cluster, |cloud| {
            cloud
                .living()
                .map(FakeInstance::owned)
                .filter(|owned| scope.contains(&owned.owner))
                .collect()
        })
        .await
    }

    async fn console_tail(&self, id: &InstanceId) -> Option<String> {
        self.cloud()
            .instances
            .get(id)
            .map(|instance| instance.console.clone())
    }
}
