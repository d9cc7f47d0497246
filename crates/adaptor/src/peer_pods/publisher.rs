//! One object, kept as it should be for as long as its VM is wanted.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use peerpods_api::PeerPod;
use peerpods_error::chain;
use tokio::{sync::watch, time::sleep};

use super::{
    Shown,
    object::{Template, status},
};
use crate::kubernetes::{Cluster, KubernetesError};

/// The first pause after a failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// An API server that is down for hours is asked once in this time, and so is one that does not know the kind.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What to do where a cluster knows no such objects.
const UNKNOWN_KIND: &str = "the cluster knows no PeerPods: install their CRD, or set PEER_PODS=omit";

/// What became of the object so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Nothing yet.
    Awaited,
    /// It is there.
    Made,
    /// It could not be made; that is tried again.
    Failed,
}

/// Makes the object, and writes each wanted status; the latest, where several were wanted meanwhile. Never returns by itself
/// while `wanted` can change.
pub(super) async fn publish(
    cluster: Cluster,
    template: Template,
    mut wanted: watch::Receiver<Shown>,
    attempts: watch::Sender<Attempt>,
) {
    let mut object = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let shown = wanted.borrow_and_update().clone();
        match write(&cluster, &template, &mut object, &shown, &attempts).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let (object, error) = (&template.key.name, chain(&error));
                if pause == FIRST_PAUSE {
                    tracing::warn!(object, error, "the PeerPod cannot be written yet");
                } else {
                    tracing::debug!(object, error, "the PeerPod cannot be written yet");
                }
                attempts.send_if_modified(|attempt| {
                    let first = *attempt == Attempt::Awaited;
                    if first {
                        *attempt = Attempt::Failed;
                    }
                    first
                });
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Makes the object where it is not known to be there, and writes its status.
async fn write(
    cluster: &Cluster,
    template: &Template,
    known: &mut Option<PeerPod>,
    shown: &Shown,
    attempts: &watch::Sender<Attempt>,
) -> Result<(), KubernetesError> {
    let object = match known.take() {
        Some(object) => object,
        None => make(cluster, template).await?,
    };
    attempts.send_replace(Attempt::Made);
    let before = object.status.clone().unwrap_or_default();
    let status = status(&before, shown, object.metadata.generation, Timestamp::now());
    let patch = &Patch::Merge(serde_json::json!({ "status": status }));
    let (namespace, name) = (&template.key.namespace, &template.key.name);
    let written = cluster.call(|client| async move {
        let api: Api<PeerPod> = Api::namespaced(client, namespace);
        api.patch_status(name, &PatchParams::default(), patch).await
    });
    // An object that somebody removed is made anew: nothing is known of it any more.
    *known = Some(written.await?);
    Ok(())
}

async fn make(cluster: &Cluster, template: &Template) -> Result<PeerPod, KubernetesError> {
    let uid = match &template.pod_uid {
        Some(uid) => uid.clone(),
        None => {
            let (namespace, pod) = (&template.key.namespace, &template.pod_name);
            cluster.pod_uid(namespace, pod).await?
        }
    };
    let object = &template.object(&uid);
    let (namespace, name) = (&template.key.namespace, &template.key.name);
    let made = cluster.call(|client| async move {
        let api: Api<PeerPod> = Api::namespaced(client, namespace);
        match api.create(&PostParams::default(), object).await {
            // An earlier attempt, or an earlier process, made it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => api.get(name).await,
            made => made,
        }
    });
    let made = made.await.map_err(|error| match error {
        KubernetesError::NotFound => KubernetesError::Refused(UNKNOWN_KIND.to_owned()),
        error => error,
    })?;
    if made.spec.sandbox_id.as_ref() != Some(&template.key.sandbox) {
        return Err(KubernetesError::Refused(format!("{name} is of another sandbox")));
    }
    Ok(made)
}
