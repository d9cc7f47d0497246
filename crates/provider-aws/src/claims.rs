//! One claim of an instance at a time.
//!
//! EC2 sets tags without looking at what they were, so two claims at once could both succeed. Within the process that
//! claims, which is one per node, they take turns here; between processes the node's journal knows whose a warm VM is,
//! and the guest takes one claim only.

use std::{
    collections::BTreeSet,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use peerpods_provider::InstanceId;
use tokio::sync::Notify;

static CLAIMS: LazyLock<Claims> = LazyLock::new(Claims::default);

#[derive(Default)]
struct Claims {
    under_way: Mutex<BTreeSet<InstanceId>>,
    ended: Notify,
}

/// While this is held nobody else in this process claims the instance.
pub(crate) struct Turn(InstanceId);

impl Turn {
    /// Waits for it.
    pub(crate) async fn of(id: &InstanceId) -> Self {
        loop {
            let mut ended = std::pin::pin!(CLAIMS.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if under_way().insert(id.clone()) {
                return Self(id.clone());
            }
            ended.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        under_way().remove(&self.0);
        CLAIMS.ended.notify_waiters();
    }
}

fn under_way() -> MutexGuard<'static, BTreeSet<InstanceId>> {
    CLAIMS.under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
