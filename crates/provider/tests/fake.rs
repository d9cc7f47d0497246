//! The fake keeps the contract, and its faults are those that its users must survive.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use peerpods_provider::{
    InstanceId, Provider, ProviderError,
    conformance::{self, InterruptedPlace, Place, request},
    fake::{Call, FakeProvider, Fault},
};

#[async_trait]
impl Place for Fake {
    fn open(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.clone())
    }

    async fn kill(&self, id: &InstanceId) {
        self.0.kill(id);
    }
}

#[async_trait]
impl InterruptedPlace for Fake {
    async fn interrupt(&self, id: &InstanceId) {
        self.0.interrupt(id, "the fake cloud needs it back");
    }
}

struct Fake(FakeProvider);

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeProvider::new();
    conformance::run_all(&Fake(fake.clone())).await;
    conformance::an_interruption_is_announced(&Fake(fake.clone())).await;
    assert_eq!(fake.instances(), []);
    let fake = FakeProvider::new();
    fake.launch_in_batches(50);
    conformance::run_all(&Fake(fake.clone())).await;
    assert_eq!(fake.instances(), []);
}

#[tokio::test(start_paused = true)]
async fn the_fake_keeps_the_contract_when_it_is_slow() {
    let fake = FakeProvider::new();
    for _ in 0..10 {
        fake.fail_next(Call::Launch, Fault::Slow(Duration::from_millis(30)));
    }
    conformance::a_cancelled_launch_leaves_nothing_hidden(&Fake(fake)).await;
}

#[tokio::test]
async fn a_lost_reply_leaves_an_instance_that_find_shows() {
    let fake = FakeProvider::new();
    let request = request("lost", "node-a");
    fake.fail_next(Call::Launch, Fault::LoseReply);
    let error = fake.launch(&request).await.unwrap_err();
    assert!(error.retryable(), "{error}");

    let found = fake.find(&request.token).await.unwrap().unwrap();
    assert_eq!(fake.launch(&request).await.unwrap(), found);
    assert_eq!(fake.launched(), 1);
}

#[tokio::test]
async fn a_fault_strikes_once_and_only_its_call() {
    let fake = FakeProvider::new();
    let request = request("throttled", "node-a");
    fake.fail_next(Call::Launch, Fault::Throttle);
    fake.fail_next(Call::Launch, Fault::Capacity);
    assert_eq!(fake.find(&request.token).await.unwrap(), None);
    assert!(matches!(
        fake.launch(&request).await,
        Err(ProviderError::Throttled { action: "launch" })
    ));
    assert!(matches!(
        fake.launch(&request).await,
        Err(ProviderError::Capacity(_))
    ));
    assert_eq!(fake.instances(), []);
    fake.launch(&request).await.unwrap();
    assert_eq!(fake.instances().len(), 1);
}

#[tokio::test]
async fn an_instance_that_does_not_end_lives_on() {
    let fake = FakeProvider::new();
    let instance = fake.launch(&request("stubborn", "node-a")).await.unwrap();
    fake.fail_next(Call::Terminate, Fault::StillAlive);
    let error = fake.terminate(&instance.id).await.unwrap_err();
    assert!(matches!(&error, ProviderError::StillAlive(id) if *id == instance.id) && error.retryable());
    assert_eq!(fake.instances().len(), 1);
    fake.terminate(&instance.id).await.unwrap();
    assert_eq!(fake.instances(), []);
}
