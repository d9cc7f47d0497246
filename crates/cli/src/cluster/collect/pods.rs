//! Pods of users: how they are run, and nothing of what they do.

use serde_json::{Map, Value, json};

/// Annotations that are ours or Kata's; others may say anything.
const ANNOTATIONS: [&str; 3] = ["io.katacontainers.", "kata.peerpods.io/", "peerpods.io/"];

/// What is kept of a pod: no command, no argument, no environment, and of volumes only their kinds.
pub(super) fn outline(pod: &Value) -> Value {
    let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
    let kept = |object: &Value, keys: &[&str]| -> Value {
        let pairs = keys.iter().map(|key| ((*key).to_owned(), object[*key].clone()));
        pairs
            .filter(|(_, value)| !value.is_null())
            .collect::<Map<_, _>>()
            .into()
    };
    let mut outline = json!({
        "metadata": kept(metadata, &["name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp",
            "deletionGracePeriodSeconds", "ownerReferences", "finalizers"]),
        "spec": kept(spec, &["nodeName", "runtimeClassName", "overhead", "nodeSelector", "tolerations", "schedulerName",
            "restartPolicy", "terminationGracePeriodSeconds", "hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace",
            "imagePullSecrets"]),
        "status": pod["status"],
    });
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let ours = annotations.filter(|(key, _)| ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix)));
    outline["metadata"]["annotations"] = ours
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into();
    for group in ["initContainers", "containers"] {
        let containers = spec[group].as_array().into_iter().flatten();
        let keys = [
            "name",
            "image",
            "imagePullPolicy",
            "resources",
            "ports",
            "volumeMounts",
            "securityContext",
        ];
        outline["spec"][group] = containers.map(|container| kept(container, &keys)).collect();
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    outline["spec"]["volumes"] = volumes
        .map(|volume| {
            let kinds = volume.as_object().into_iter().flatten();
            let kinds: Vec<_> = kinds.map(|(key, _)| key).filter(|key| *key != "name").collect();
            json!({"name": volume["name"], "kind": kinds})
        })
        .collect();
    outline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_pod_tells_nothing_of_what_it_does() {
        let pod = json!({
            "metadata": {"name": "web", "annotations": {"io.katacontainers.config.hypervisor.default_vcpus": "2", "note": "hush"}},
            "spec": {
                "runtimeClassName": "kata-remote",
                "containers": [{"name": "a", "image": "nginx", "command": ["hush"], "args": ["hush"], "env": [{"name": "A", "value": "hush"}]}],
                "volumes": [{"name": "v", "csi": {"volumeAttributes": {"a": "hush"}}}],
            },
            "status": {"phase": "Running"},
        });
        let outline = outline(&pod);
        assert!(!outline.to_string().contains("hush"), "{outline}");
        assert_eq!(outline["spec"]["containers"][0]["image"], "nginx");
        assert_eq!(outline["spec"]["volumes"][0]["kind"], json!(["csi"]));
        assert_eq!(outline["status"]["phase"], "Running");
    }
}
