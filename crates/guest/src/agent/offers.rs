//! Registry credentials that wait for the pull they are for: at most as long as it takes to ask for that pull.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use peerpods_proto::{
    registry::ImageAccess,
    registry_ttrpc::ImageCredentials,
    registry_wire::{OfferRequest, OfferResponse},
};
use tokio::time::sleep;
use ttrpc::asynchronous::TtrpcContext;

use super::service::Service;
use crate::{container::ContainerId, error::GuestError};

/// The worker creates the container at once; one that died in between never will.
const WAITING_TIME: Duration = Duration::from_secs(60);
/// The kubelet has one image pulled at a time, or a few; more containers than these are never about to be created.
const WAITING_LIMIT: usize = 64;

/// What containers about to be created were given.
#[derive(Default)]
pub(super) struct Offers {
    waiting: Arc<Mutex<BTreeMap<ContainerId, Arc<ImageAccess>>>>,
}

impl Offers {
    /// Keeps the credentials until they are taken, others take their place, or time is up.
    pub(super) fn put(&self, container: ContainerId, access: ImageAccess) -> Result<(), GuestError> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_LIMIT && !waiting.contains_key(&container) {
            return Err(GuestError::Invalid {
                field: "access",
                problem: format!("credentials for {WAITING_LIMIT} containers are waiting already"),
            });
        }
        let access = Arc::new(access);
        waiting.insert(container.clone(), access.clone());
        let (waiting, mine) = (self.waiting.clone(), Arc::downgrade(&access));
        tokio::spawn(async move {
            sleep(WAITING_TIME).await;
            let mut waiting = lock(&waiting);
            if waiting
                .get(&container)
                .is_some_and(|now| Arc::as_ptr(now) == mine.as_ptr())
            {
                waiting.remove(&container);
            }
        });
        Ok(())
    }

    /// Takes the credentials of a container, which only its pull does.
    pub(super) fn take(&self, container: &ContainerId) -> Option<Arc<ImageAccess>> {
        lock(&self.waiting).remove(container)
    }
}

fn lock(
    waiting: &Mutex<BTreeMap<ContainerId, Arc<ImageAccess>>>,
) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<ImageAccess>>> {
    waiting
        .lock()
        .expect("nothing panics while it holds the credentials")
}

#[async_trait]
impl ImageCredentials for Service {
    async fn offer(&self, _: &TtrpcContext, request: OfferRequest) -> ttrpc::Result<OfferResponse> {
        let container = ContainerId::parse(&request.container_id)?;
        let message = request.access.into_option().unwrap_or_default();
        let access = ImageAccess::from_wire(message).map_err(|error| GuestError::Invalid {
            field: "access",
            problem: error.to_string(),
        })?;
        self.sandbox.offers.put(container, access)?;
        Ok(OfferResponse::new())
    }
}

#[cfg(test)]
mod tests {
    use peerpods_proto::registry::Repository;

    use super::*;

    fn access() -> ImageAccess {
        ImageAccess {
            repository: Repository::of_image("busybox").unwrap(),
            credentials: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn container(number: usize) -> ContainerId {
        ContainerId::parse(&format!("c{number}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_is_taken_once_and_forgotten_in_time() {
        let offers = Offers::default();
        offers.put(container(1), access()).unwrap();
        assert!(offers.take(&container(1)).is_some());
        assert!(offers.take(&container(1)).is_none());

        offers.put(container(1), access()).unwrap();
        sleep(WAITING_TIME / 2).await;
        // Its time begins anew.
        offers.put(container(1), access()).unwrap();
        sleep(WAITING_TIME - Duration::from_secs(1)).await;
        assert_eq!(lock(&offers.waiting).len(), 1);
        sleep(Duration::from_secs(2)).await;
        assert!(lock(&offers.waiting).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn offers_have_a_limit() {
        let offers = Offers::default();
        (0..WAITING_LIMIT).for_each(|number| offers.put(container(number), access()).unwrap());
        offers.put(container(WAITING_LIMIT), access()).unwrap_err();
        offers.put(container(0), access()).unwrap();
    }
}
