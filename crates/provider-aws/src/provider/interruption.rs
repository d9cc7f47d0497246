//! Waiting for EC2 to take a spot instance back.

use std::{future::pending, time::Duration};

use peerpods_error::chain;
use peerpods_provider::InstanceId;
use tokio::time::sleep;

use super::{account::Account, ago};

/// A question that is refused, as by a policy of before it was asked, is asked again this often at last.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Account {
    /// What EC2 says when it takes the instance back; never where that is no spot instance.
    pub(super) async fn interruption(&self, id: &InstanceId) -> String {
        if !self.is_spot(id).await {
            return pending().await;
        }
        let interval = self.timing.interruption;
        let mut pause = interval;
        loop {
            match self.spot_requests.look(id, ago(interval)).await {
                Ok(request) => {
                    if let Some(words) = request.and_then(|request| request.interruption()) {
                        return words;
                    }
                    pause = interval;
                }
                Err(error) => {
                    tracing::warn!(
                        instance = %id,
                        error = chain(&error),
                        "whether EC2 takes the spot instance back is asked again"
                    );
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            sleep(pause).await;
        }
    }

    /// Whether EC2 may take it back. What it was bought as does not change, whatever the settings say by now.
    async fn is_spot(&self, id: &InstanceId) -> bool {
        loop {
            match self.shown(id, ago(self.timing.freshness)).await {
                Ok(view) => return view.is_some_and(|view| view.is_spot()),
                Err(error) => {
                    tracing::debug!(instance = %id, error = chain(&error), "EC2 cannot tell");
                }
            }
            sleep(self.timing.interruption).await;
        }
    }
}
