//! Waiting for an end.

use std::time::{Duration, Instant};

use crate::{InstanceId, ProviderError};

/// The longest from a kill to the end; giving a large VM's memory back takes a while.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How often to look while waiting for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Takes steps towards an instance's end until one answers that there is nothing left.
///
/// Each step takes the state lock for itself, so that others are served in between.
pub async fn terminate<E, Step>(id: &InstanceId, step: impl Fn() -> Step) -> Result<(), ProviderError>
where
    E: std::error::Error + Send + Sync + 'static,
    Step: Future<Output = Result<bool, E>>,
{
    let deadline = Instant::now() + END_LIMIT;
    while !step().await.map_err(ProviderError::during("terminate", id))? {
        if Instant::now() > deadline {
            return Err(ProviderError::StillAlive(id.clone()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
