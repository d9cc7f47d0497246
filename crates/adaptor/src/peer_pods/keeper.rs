//! Objects whose VMs are gone: their finalizer is taken off, and they are deleted.

use std::time::Duration;

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use peerpods_api::{PeerPod, names::finalizers};
use peerpods_error::chain;
use tokio::time::sleep;

use super::ObjectKey;
use crate::{
    journal::Journal,
    kubernetes::{Cluster, KubernetesError},
};

/// The first pause after a failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// An object waits for the API server at most this much longer than the API server was away.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Lets go all that the journal names; returns when nothing is left to be.
pub(super) async fn release_all(cluster: &Cluster, journal: &Journal) {
    let mut pause = FIRST_PAUSE;
    loop {
        let due = match journal.releases() {
            Ok(due) if due.is_empty() => return,
            Ok(due) => due,
            Err(error) => {
                tracing::error!(error = chain(&error), "the journal cannot be read; trying again");
                Vec::new()
            }
        };
        let mut failed = due.is_empty();
        for key in due {
            let released = release(cluster, &key).await;
            let forgotten = match released {
                Ok(()) => journal.remove_release(&key).await.map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            if let Err(error) = forgotten {
                tracing::warn!(object = %key, error, "the PeerPod cannot be let go yet");
                failed = true;
            }
        }
        if failed {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Takes our finalizer off and deletes the object; one that is not there, or is of another sandbox, is done already.
pub(super) async fn release(cluster: &Cluster, key: &ObjectKey) -> Result<(), KubernetesError> {
    let released = cluster.call(|client| async move {
        let api: Api<PeerPod> = Api::namespaced(client, &key.namespace);
        let Some(object) = api.get_opt(&key.name).await? else {
            return Ok(());
        };
        if object.spec.sandbox_id.as_ref() != Some(&key.sandbox) {
            return Ok(());
        }
        let metadata = object.metadata;
        let mut left = metadata.finalizers.unwrap_or_default();
        left.retain(|finalizer| finalizer != finalizers::PEER_POD);
        // The version: somebody else's finalizer that comes meanwhile is not overwritten.
        let patch = serde_json::json!({
            "metadata": {"finalizers": left, "resourceVersion": metadata.resource_version},
        });
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let preconditions = Preconditions {
            uid: metadata.uid,
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(preconditions);
        api.delete(&key.name, &parameters).await.map(drop)
    });
    match released.await {
        Err(KubernetesError::NotFound) => Ok(()),
        outcome => outcome,
    }
}
