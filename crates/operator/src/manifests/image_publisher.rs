//! What publishes the VM image to EC2.

use peerpods_api::names;
use serde_json::json;

use super::{adaptor::settings_revision, selector};
use crate::{
    installation::Installation,
    managed::{Kind, ManagedObject},
    names::{IMAGE_PUBLISHER, SETTINGS_REVISION},
    observed::{Component, Observed},
};

/// In that container image: the disk, packed, and what it was made of.
const IMAGE: &str = "/usr/share/peerpods";
/// What is done of a publication is noted here, and so goes on after a failure.
const WORK: &str = "/work";
/// What the container ends with becomes a part of its pod's status.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Tried again for ever, at intervals that the kubelet makes longer up to 5 minutes: rights in an account change without
/// anything changing here. It is the most that the field takes.
const ATTEMPTS: i32 = i32::MAX;

/// The Job. With other settings or credentials it is another one.
pub fn image_publisher(installation: &Installation, observed: &Observed) -> ManagedObject {
    let container = json!({
        "name": "publish",
        "image": installation.images.vm_image,
        "args": ["image", "publish", "--unpack-into", WORK, "--id-file", TERMINATION_LOG, IMAGE],
        // As adaptors have them.
        "envFrom": [
            {"configMapRef": {"name": names::SETTINGS_CONFIG_MAP}},
            {"secretRef": {"name": names::CLOUD_SECRET, "optional": true}},
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "work", "mountPath": WORK}],
    });
    let body = json!({"spec": {
        "backoffLimit": ATTEMPTS,
        "template": {
            "metadata": {
                "labels": selector(Component::ImagePublisher),
                "annotations": {(SETTINGS_REVISION): settings_revision(observed)},
            },
            "spec": {
                "serviceAccountName": IMAGE_PUBLISHER,
                "automountServiceAccountToken": false,
                "restartPolicy": "OnFailure",
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container],
                "volumes": [{"name": "work", "emptyDir": {"sizeLimit": "256Mi"}}],
            },
        },
    }});
    ManagedObject::new(Kind::Job, IMAGE_PUBLISHER, &installation.namespace, body)
}
