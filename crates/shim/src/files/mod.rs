//! The pod's files of the node that have copies in the guest, and how these follow their sources.
//!
//! The kubelet publishes a new version of a ConfigMap, Secret, projected or downward volume by replacing the link
//! `..data` (its "atomic writer"). That one event is watched for; the new version is then sent, and the guest replaces
//! the link in its copy in the same way, so that a container sees what it would see on the node.

mod copy;
mod version;
mod watch;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::sync::{Mutex, mpsc};

use self::{version::Version, watch::Watch};
use crate::{
    agent::Agent,
    error::Error,
    mounts::{Copy, Renewal},
};

/// How often a source may change while it is copied before the attempt is given up.
const ATTEMPTS: u32 = 5;

/// What is copied for the containers of one pod.
pub(crate) struct Files {
    agent: Agent,
    /// What each copy in the guest shows. Held while one is made, so that none is made twice at once.
    shown: Mutex<BTreeMap<String, Version>>,
    watch: OnceLock<Option<Watch>>,
}

impl Files {
    pub(crate) fn new(agent: Agent) -> Arc<Self> {
        Arc::new(Self {
            agent,
            shown: Mutex::default(),
            watch: OnceLock::new(),
        })
    }

    /// Brings the copy into the guest, unless it shows the source as it is.
    pub(crate) async fn provide(self: &Arc<Self>, copy: &Copy) -> Result<(), Error> {
        if copy.renewal == Renewal::WithSource {
            // Before the copy is made, so that no change after it goes unseen.
            self.follow(copy);
        }
        self.renew(copy).await
    }

    async fn renew(&self, copy: &Copy) -> Result<(), Error> {
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

    /// Renews the copy whenever a new version of its source is published. A node that cannot watch has copies that do
    /// not follow: worse than it should be, but no reason to refuse the pod.
    fn follow(self: &Arc<Self>, copy: &Copy) {
        let watch = self.watch.get_or_init(|| {
            let (published, changes) = mpsc::unbounded_channel();
            let watch = Watch::start(published)
                .inspect_err(|error| {
                    tracing::warn!(error = error.chain(), "configuration will not follow changes")
                })
                .ok()?;
            tokio::spawn(renew_published(self.clone(), changes));
            Some(watch)
        });
        if let Some(watch) = watch
            && let Err(error) = watch.add(copy.clone())
        {
            tracing::warn!(
                error = error.chain(),
                "this configuration will not follow changes"
            );
        }
    }
}

async fn renew_published(files: Arc<Files>, mut changes: mpsc::UnboundedReceiver<Copy>) {
    while let Some(copy) = changes.recv().await {
        match files.renew(&copy).await {
            Ok(()) => tracing::debug!(source = %copy.source.display(), "a new version is in the guest"),
            // The volume went with its pod, or the machine did; otherwise the next version tries again.
            Err(error) => tracing::warn!(error = error.chain(), "a new version did not reach the guest"),
        }
    }
}

/// The link by which the kubelet publishes a version.
const PUBLISHED: &str = "..data";

fn published_link(source: &std::path::Path) -> PathBuf {
    source.join(PUBLISHED)
}
