//! An instance's elastic addresses: given after its launch, given up after its end.

use std::{collections::BTreeSet, net::Ipv4Addr};

use peerpods_aws::{Action, AwsError, Parameters, RefusalKind};
use peerpods_error::chain;
use peerpods_provider::{Instance, InstanceId, LaunchRequest, LaunchToken, OwnerScope, ProviderError};
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep};

use super::{
    Place,
    account::{Account, has_ended},
};
use crate::{
    addresses::{AddressView, Allocated, ElasticAddresses, Held},
    answers::{Addressing, Existence, InstanceView},
    error::during,
    request,
    tags::{CLUSTER, NODE, TOKEN},
};

/// How often something may be in the way of an instance's addresses, as that it is still pending: a minute in all.
const OBSTACLES: u32 = 30;

impl Place {
    /// Gives each interface of these instances, which this request launched, an elastic address, whatever of that was done before,
    /// and answers each instance with that of its first interface.
    pub(super) async fn with_elastic_addresses(
        &self,
        request: &LaunchRequest,
        views: Vec<InstanceView>,
    ) -> Result<Vec<Instance>, ProviderError> {
        // One question about all of them.
        self.account.addresses.expect(views.iter().map(InstanceView::id));
        let asked = Instant::now();
        let mut instances = Vec::new();
        for view in views {
            instances.push(self.with_its_addresses(request, view, asked).await?);
        }
        Ok(instances)
    }

    async fn with_its_addresses(
        &self,
        request: &LaunchRequest,
        mut view: InstanceView,
        mut asked: Instant,
    ) -> Result<Instance, ProviderError> {
        let (id, account) = (view.id(), &self.account);
        let failed = |error| Self::refused(&id, error);
        let mut obstacles = 0;
        loop {
            match self.try_addresses(request, &view, asked).await {
                Ok(Some(address)) => {
                    let instance = view.with_public(address).instance(self.settings.reached);
                    return instance
                        .ok_or_else(|| super::launch::failed(request, "it has no private address"));
                }
                // EC2 may show later what is missing: a second one is not made for it.
                Ok(None) => {}
                Err(AddressError::Impossible(error)) => return Err(error),
                Err(AddressError::Aws(error)) if obstacles == OBSTACLES || !may_pass(&error) => {
                    return Err(failed(error));
                }
                Err(AddressError::Aws(error)) => {
                    tracing::debug!(instance = %id, error = chain(&error), "its addresses are looked at again");
                    obstacles += 1;
                }
            }
            sleep(account.timing.look).await;
            asked = Instant::now();
            let shown = account.watch.look(&id, asked).await.map_err(failed)?;
            view = shown.unwrap_or(view);
            if view.existence() != Existence::Lives {
                return Err(ProviderError::Ended(id));
            }
        }
    }

    /// Does what is missing, by what EC2 showed at `asked` or later, and answers the address of the first interface; none where
    /// something is missing that EC2 may not show yet.
    async fn try_addresses(
        &self,
        request: &LaunchRequest,
        view: &InstanceView,
        asked: Instant,
    ) -> Result<Option<Ipv4Addr>, AddressError> {
        let (id, account) = (view.id(), &self.account);
        let shown = account.addresses.look(&id, asked).await?;
        let shown = shown.unwrap_or_default();
        let holdings = shown.held_by(view.interfaces());
        for address in &holdings.surplus {
            account.release(&id, address).await?;
        }
        if !holdings.is_complete() && !account.address_requests.were_visible(&id, asked) {
            return Ok(None);
        }
        let mut first = None;
        for (interface, held) in &holdings.interfaces {
            let device = interface.attachment.device_index;
            let address = match held {
                Held::Associated(address) => address.public_ip,
                Held::Made(address) => {
                    account
                        .associate(&address.allocation_id, &interface.network_interface_id)
                        .await?;
                    address.public_ip
                }
                Held::Nothing => {
                    let parameters = request::allocate_address(&self.settings, request, &id, device)
                        .map_err(AddressError::Impossible)?;
                    let made = account.allocate(&id, &parameters).await?;
                    account
                        .associate(&made.allocation_id, &interface.network_interface_id)
                        .await?;
                    made.public_ip
                }
            };
            if device == 0 {
                first = Some(address);
            }
        }
        let none = || super::launch::failed(request, "it has no network interface");
        first.map(Some).ok_or_else(|| AddressError::Impossible(none()))
    }

    fn refused(id: &InstanceId, error: AwsError) -> ProviderError {
        match error.refusal() {
            Some(RefusalKind::Quota) => ProviderError::Capacity(format!(
                "{}; with USE_PUBLIC_IP and EXTERNAL_NETWORK_VIA_PODVM each VM has two elastic addresses, and the quota \
                 \"EC2-VPC Elastic IPs\" says how many the account may have in this region: ask for more under Service Quotas",
                chain(&error)
            )),
            _ => during("give elastic addresses to", id)(error),
        }
    }
}

/// Why an instance does not have its addresses.
enum AddressError {
    /// It is not to be had, whoever asks.
    Impossible(ProviderError),
    /// A call failed.
    Aws(AwsError),
}

impl From<AwsError> for AddressError {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

/// Whether looking again may help: something is not shown yet, or not yet in its state, or it is not known what a call did.
fn may_pass(error: &AwsError) -> bool {
    match error.refusal() {
        Some(kind) => matches!(
            kind,
            RefusalKind::NotFound | RefusalKind::WrongState | RefusalKind::Internal
        ),
        None => error.is_doubtful(),
    }
}

impl Account {
    async fn allocate(&self, id: &InstanceId, parameters: &Parameters) -> Result<Allocated, AwsError> {
        // EC2 may have made it, and not show it, from the request on until some time after the answer.
        self.address_requests.note(id);
        let answer = self.ec2.call(Action::AllocateAddress, parameters).await;
        self.address_requests.note(id);
        answer
    }

    async fn associate(&self, allocation: &str, interface: &str) -> Result<(), AwsError> {
        let mut parameters = Parameters::new();
        parameters
            .set("AllocationId", allocation)
            .set("NetworkInterfaceId", interface)
            // What is another interface's stays there.
            .set("AllowReassociation", false);
        let associated = self.ec2.call::<IgnoredAny>(Action::AssociateAddress, &parameters);
        associated.await.map(drop)
    }

    /// Gives one address up; success means that it is not the account's any more.
    async fn release(&self, id: &InstanceId, address: &AddressView) -> Result<(), AwsError> {
        let mut parameters = Parameters::new();
        parameters.set("AllocationId", &address.allocation_id);
        let released = self
            .ec2
            .call::<IgnoredAny>(Action::ReleaseAddress, &parameters)
            .await;
        let error = match released {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error.refusal() {
            Some(RefusalKind::NotFound) => Ok(()),
            // EC2 says the same of what is another account's by now, and of wrong credentials.
            Some(RefusalKind::Denied) => {
                let left = self.addresses.look(id, Instant::now()).await?.unwrap_or_default();
                let is_left = left
                    .0
                    .iter()
                    .any(|one| one.allocation_id == address.allocation_id);
                if is_left { Err(error) } else { Ok(()) }
            }
            _ => Err(error),
        }
    }

    /// Gives up what elastic addresses an instance has that ended, as its tags say it had: `shown` is what EC2 showed of it last.
    pub(super) async fn release_left(
        &self,
        id: &InstanceId,
        shown: Option<&InstanceView>,
    ) -> Result<(), ProviderError> {
        match shown.and_then(InstanceView::addressing) {
            Some(Addressing::Automatic) => Ok(()),
            Some(Addressing::Elastic) => self.release_all(id).await,
            // Its tags are gone. Who may not even look for addresses has not made any.
            None => match self.release_all(id).await {
                Err(ProviderError::Denied { message, .. }) => {
                    tracing::warn!(instance = %id, message, "elastic addresses of it are not looked for");
                    Ok(())
                }
                released => released,
            },
        }
    }

    /// Gives up all elastic addresses of an instance that has ended; its interfaces lose them by themselves.
    async fn release_all(&self, id: &InstanceId) -> Result<(), ProviderError> {
        let failed = |error| during("release the elastic addresses of", id)(error);
        let deadline = Instant::now() + self.timing.end;
        loop {
            let asked = Instant::now();
            let is_all = self.address_requests.were_visible(id, asked);
            let shown = self.addresses.look(id, asked).await.map_err(failed)?;
            let mut in_use = None;
            for address in &shown.unwrap_or_default().0 {
                match self.release(id, address).await {
                    Ok(()) => {}
                    Err(error) if error.refusal() == Some(RefusalKind::WrongState) => in_use = Some(error),
                    Err(error) => return Err(failed(error)),
                }
            }
            match in_use {
                None if is_all => break,
                Some(error) if Instant::now() >= deadline => return Err(failed(error)),
                None | Some(_) => sleep(self.timing.look).await,
            }
        }
        self.addresses.forget(id).await;
        Ok(())
    }

    /// Gives up what these instances of a token left that ended without us; and, where this process gives instances elastic
    /// addresses, what those left that EC2 does not show any more.
    pub(super) async fn release_left_by(
        &self,
        token: &LaunchToken,
        views: &[InstanceView],
    ) -> Result<(), ProviderError> {
        for view in views.iter().filter(|view| view.existence() != Existence::Lives) {
            self.release_left(&view.id(), Some(view)).await?;
        }
        if views.is_empty() && self.addressing == Some(Addressing::Elastic) {
            let mut parameters = Parameters::new();
            parameters.set_filter(1, format!("tag:{TOKEN}"), [token]);
            let left: Result<Vec<AddressView>, _> = self.ec2.list(&parameters).await;
            let left = left.map_err(during("find the elastic addresses of", token))?;
            let instances: BTreeSet<InstanceId> = left.iter().filter_map(AddressView::instance).collect();
            for id in instances {
                self.release_all(&id).await?;
            }
        }
        Ok(())
    }

    /// Gives up addresses within this scope whose instances are gone, whoever should have done so. `views` is all that EC2 shows
    /// there.
    pub(super) async fn release_strays(
        &self,
        scope: &OwnerScope,
        views: &[InstanceView],
    ) -> Result<(), ProviderError> {
        let had_any = |view: &InstanceView| view.addressing() == Some(Addressing::Elastic);
        if self.addressing == Some(Addressing::Automatic) && !views.iter().any(had_any) {
            return Ok(());
        }
        let mut parameters = Parameters::new();
        parameters.set_filter(1, format!("tag:{CLUSTER}"), [&scope.cluster]);
        if let Some(node) = &scope.node {
            parameters.set_filter(2, format!("tag:{NODE}"), [node]);
        }
        let found: Result<Vec<AddressView>, _> = self.ec2.list(&parameters).await;
        let found = found.map_err(during("find the elastic addresses of", &scope.cluster))?;
        let free = found.iter().filter(|address| address.interface().is_none());
        let named: BTreeSet<InstanceId> = free.filter_map(AddressView::instance).collect();
        let lives = |id: &InstanceId| {
            let mut living = views.iter().filter(|view| view.existence() == Existence::Lives);
            living.any(|view| view.id() == *id)
        };
        let stray: Vec<InstanceId> = named.into_iter().filter(|id| !lives(id)).collect();
        if stray.is_empty() {
            return Ok(());
        }
        // An instance that another process launched may be there and not be shown.
        sleep(self.timing.visibility).await;
        for id in &stray {
            if has_ended(self.shown(id, Instant::now()).await?.as_ref()) {
                tracing::warn!(instance = %id, "the elastic addresses of an instance that is gone are released");
                self.release_all(id).await?;
            }
        }
        Ok(())
    }

    /// What carries the instance's tags beside what was made with it.
    pub(super) async fn addresses_of(&self, view: &InstanceView) -> Result<ElasticAddresses, ProviderError> {
        match view.addressing() {
            Some(Addressing::Elastic) => {
                let id = view.id();
                let shown = self.addresses.look(&id, Instant::now()).await;
                let shown = shown.map_err(during("find the elastic addresses of", &id))?;
                Ok(shown.unwrap_or_default())
            }
            Some(Addressing::Automatic) | None => Ok(ElasticAddresses::default()),
        }
    }
}
