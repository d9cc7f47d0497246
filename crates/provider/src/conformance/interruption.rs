//! What a provider promises that announces when it takes instances back.

use async_trait::async_trait;
use tokio::time::timeout;

use super::{NOTICE_LIMIT, Place, describe, end, launch, request};
use crate::{InstanceId, InstanceStatus, Provider};

/// A place that takes instances back.
#[async_trait]
pub trait InterruptedPlace: Place {
    /// Has it announced that the instance is taken back.
    async fn interrupt(&self, id: &InstanceId);
}

/// An announcement reaches who waits for it and who asks later, also after a restart; it is of one instance, which lives on.
pub async fn an_interruption_is_announced(place: &dyn InterruptedPlace) {
    let provider = place.open();
    let (kept, taken) = (request("kept", "node-a"), request("taken", "node-a"));
    let (kept, taken) = (launch(&*provider, &kept).await, launch(&*provider, &taken).await);
    let (words, ()) = tokio::join!(announced(&*provider, &taken.id), place.interrupt(&taken.id));
    assert!(!words.is_empty(), "an announcement without words");
    assert_eq!(
        describe(&*provider, &taken.id).await,
        InstanceStatus::Alive,
        "what is announced has not happened"
    );
    let restarted = place.open();
    tokio::select! {
        biased;
        others = restarted.interruption(&kept.id) => panic!("announced of another instance: {others}"),
        again = announced(&*restarted, &taken.id) => assert_eq!(again, words),
    }
    end(place, &kept.id).await;
    end(place, &taken.id).await;
}

async fn announced(provider: &dyn Provider, id: &InstanceId) -> String {
    timeout(NOTICE_LIMIT, provider.interruption(id))
        .await
        .unwrap_or_else(|_| panic!("nothing was announced in {NOTICE_LIMIT:?}"))
}
