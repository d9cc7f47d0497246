//! A launch with all of its attempts.

use peerpods_error::chain;
use peerpods_provider::ProviderError;
use tokio::time::{Instant, timeout_at};

use crate::{
    retry::Pauses,
    sandbox::{Limits, Reason},
};

/// Makes the call, again while that may help, within the time that a launch has.
pub(crate) async fn launch_within<T, F>(limits: &Limits, mut call: impl FnMut() -> F) -> Result<T, Reason>
where
    F: Future<Output = Result<T, ProviderError>>,
{
    let deadline = Instant::now() + limits.launch;
    let mut pauses = Pauses::new(limits);
    loop {
        let error = match timeout_at(deadline, call()).await {
            Ok(Ok(launched)) => return Ok(launched),
            Ok(Err(error)) if !error.retryable() || Instant::now() >= deadline => {
                return Err(refusal(&error));
            }
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(Reason::NotLaunched(format!(
                    "no answer within {:?}",
                    limits.launch
                )));
            }
        };
        tracing::warn!(error = chain(&error), "the launch is tried again");
        pauses.next(deadline).await;
    }
}

fn refusal(error: &ProviderError) -> Reason {
    match error {
        ProviderError::InvalidRequest(_) | ProviderError::Denied { .. } => Reason::Refused(chain(error)),
        ProviderError::Capacity(_) => Reason::NoCapacity(chain(error)),
        ProviderError::Throttled { .. }
        | ProviderError::Failed { .. }
        | ProviderError::StillAlive(_)
        | ProviderError::ClaimedByAnother { .. }
        | ProviderError::Ended(_) => Reason::NotLaunched(chain(error)),
    }
}
