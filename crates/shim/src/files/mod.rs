//! The pod's files of the node that have copies in the guest, and how these follow their sources.
//!
//! The kubelet publishes a new version of a ConfigMap, Secret, projected or downward volume by replacing the link
//! `..data` (its "atomic writer"). That one event is watched for; the new version is then sent, and the guest replaces
//! the link in its copy in the same way, so that a container sees what it would see on the node.

mod copy;
mod version;

use std::{collections::BTreeMap, path::PathBuf};

use tokio::sync::Mutex;

use self::version::Version;
use crate::{
    agent::Agent,
    error::Error,
    mounts::{Copy, Renewal},
    watch::{PUBLISHED, Watch},
};

/// How often a source may change while it is copied before the attempt is given up.
const ATTEMPTS: u32 = 5;

/// What is copied for the containers of one pod.
pub(crate) struct Files {
    agent: Agent,
    /// What each copy in the guest shows. Held while one is made, so that none is made twice at once.
    shown: Mutex<BTreeMap<String, Version>>,
    /// A node that cannot watch has copies that do not follow: worse than it should be, but no reason to refuse a pod.
    watch: Option<Watch>,
}

impl Files {
    pub(crate) fn new(agent: Agent, watch: Option<Watch>) -> Self {
        Self {
            agent,
            shown: Mutex::default(),
            watch,
        }
    }

    /// Brings the copy into the guest, unless it shows the source as it is.
    pub(crate) async fn provide(&self, copy: &Copy) -> Result<(), Error> {
        if copy.renewal == Renewal::WithSource
            && let Some(watch) = &self.watch
            // Before the copy is made, so that no change after it goes unseen.
            && let Err(error) = watch.versions_of(copy.clone())
        {
            tracing::warn!(
                error = error.chain(),
                "this configuration will not follow changes"
            );
        }
        self.show(copy).await
    }

    /// Brings a new version of the copy's source into the guest.
    pub(crate) async fn renew(&self, copy: &Copy) {
        match self.show(copy).await {
            Ok(()) => tracing::debug!(source = %copy.source.display(), "a new version is in the guest"),
            // The volume went with its pod, or the machine did; otherwise the next version tries again.
            Err(error) => tracing::warn!(error = error.chain(), "a new version did not reach the guest"),
        }
    }

    async fn show(&self, copy: &Copy) -> Result<(), Error> {
        let mut shown = self.shown.lock().await;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let version = Version::of(&copy.source)?;
            if shown.get(&copy.target) == Some(&version) {
                return Ok(());
            }
            // What is half sent shows nothing.
            shown.remove(&copy.target);
            let sent = copy::send(&self.agent, copy).await;
            let is_same = Version::of(&copy.source).is_ok_and(|now| now == version);
            match sent {
                Ok(()) if is_same => {
                    shown.insert(copy.target.clone(), version);
                    return Ok(());
                }
                Err(error) if is_same || attempt == ATTEMPTS => return Err(error),
                Ok(()) if attempt == ATTEMPTS => return Ok(()),
                Ok(()) | Err(_) => {
                    tracing::debug!(source = %copy.source.display(), "changed while it was copied");
                }
            }
        }
    }
}

fn published_link(source: &std::path::Path) -> PathBuf {
    source.join(PUBLISHED)
}
