//! The table of admission cases, and what must be true of a pod that was changed.

use std::{collections::BTreeMap, fs, path::Path};

use peerpods_api::names::{VM_RESOURCE, annotations};
use peerpods_resources::{ContainerResources, PodResources, Quantity, VolumeLimits};
use serde::Deserialize;
use serde_json::{Value, json};

/// One row of the table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    case: String,
    #[serde(default = "peer_pod")]
    class: Option<String>,
    #[serde(default = "default_namespace")]
    pub(crate) namespace: String,
    annotations: Option<BTreeMap<String, String>>,
    pod: Value,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// The containers' resources that are kept, where they are not those of `pod`.
    kept: Option<BTreeMap<String, ContainerResources>>,
    /// How large volumes may become, in bytes.
    #[serde(default)]
    volumes: BTreeMap<String, u64>,
}

/// What becomes of a pod.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// Nothing at all.
    Unchanged(bool),
    /// It gets a VM of this size: values of annotations.
    Vm(BTreeMap<String, Value>),
    /// It is refused with one of these texts.
    Refused(Texts),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Several(Vec<String>),
}

fn peer_pod() -> Option<String> {
    Some("kata-remote".to_owned())
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// Every case of every file.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let files = fs::read_dir(&folder).expect("the folder of cases is there");
    let mut cases = Vec::new();
    for file in files {
        let path = file.expect("the folder can be listed").path();
        let text = fs::read_to_string(&path).expect("a file of cases can be read");
        let read: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        cases.extend(read);
    }
    assert!(cases.len() >= 60, "{} cases", cases.len());
    cases
}

impl Case {
    pub(crate) fn name(&self) -> &str {
        &self.case
    }

    /// The pod as its user wrote it.
    pub(crate) fn pod(&self) -> Value {
        let mut spec = self.pod.clone();
        for (kind, prefix) in [("containers", "c"), ("initContainers", "i")] {
            let containers = spec[kind].as_array_mut().into_iter().flatten().enumerate();
            for (number, container) in containers {
                container["name"] = json!(format!("{prefix}{number}"));
                container["image"] = json!("example.com/image:1");
            }
        }
        if let Some(class) = &self.class {
            spec["runtimeClassName"] = json!(class);
        }
        let name: String = self
            .case
            .to_lowercase()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": format!("case-{}", name.trim_end_matches('-')), "namespace": self.namespace},
        });
        if let Some(annotations) = &self.annotations {
            pod["metadata"]["annotations"] = json!(annotations);
        }
        pod
    }

    /// Panics unless `refusal` is one that this case expects.
    #[track_caller]
    pub(crate) fn check_refusal(&self, refusal: &str) {
        let Outcome::Refused(texts) = &self.outcome else {
            panic!("{}: refused: {refusal}", self.case);
        };
        let texts = match texts {
            Texts::One(text) => std::slice::from_ref(text),
            Texts::Several(texts) => texts,
        };
        let said = texts.iter().any(|text| refusal.contains(text.as_str()));
        assert!(said, "{}: {refusal}", self.case);
    }

    /// Panics unless `after` is what this case expects of `before`, the pod as it would be without us.
    #[track_caller]
    pub(crate) fn check_pod(&self, before: &Value, after: &Value) {
        match &self.outcome {
            Outcome::Unchanged(_) => assert_eq!(after, before, "{}", self.case),
            Outcome::Refused(_) => panic!("{}: not refused: {after:#}", self.case),
            Outcome::Vm(size) => {
                assert_eq!(
                    without_ours(after),
                    without_ours(before),
                    "{}: all else stays",
                    self.case
                );
                self.check_resources(after);
                self.check_size(after, size);
                self.check_kept(before, after);
                self.check_volumes(after);
            }
        }
    }

    #[track_caller]
    fn check_resources(&self, after: &Value) {
        assert_eq!(after["spec"].get("resources"), None, "{}", self.case);
        for (number, container) in containers(after).enumerate() {
            let wanted = match number {
                0 => json!({"limits": {VM_RESOURCE: "1"}, "requests": {VM_RESOURCE: "1"}}),
                _ => json!({}),
            };
            let resources = container.get("resources").cloned().unwrap_or(json!({}));
            assert_eq!(resources, wanted, "{}: container {number}", self.case);
        }
    }

    #[track_caller]
    fn check_size(&self, after: &Value, size: &BTreeMap<String, Value>) {
        for (word, annotation) in [
            ("vcpus", annotations::DEFAULT_VCPUS),
            ("memory", annotations::DEFAULT_MEMORY),
            ("gpus", annotations::DEFAULT_GPUS),
        ] {
            let found = after["metadata"]["annotations"][annotation].as_str();
            let wanted = size
                .get(word)
                .map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            assert_eq!(found, wanted.as_deref(), "{}: {annotation}", self.case);
        }
    }

    #[track_caller]
    fn check_volumes(&self, after: &Value) {
        let text = after["metadata"]["annotations"][annotations::VOLUMES].as_str();
        let limits = text.map_or_else(VolumeLimits::default, |text| {
            VolumeLimits::parse(text).unwrap_or_else(|error| panic!("{}: {error}", self.case))
        });
        let bytes = |name: &String| limits.bytes(name).expect("a kept quantity is one").unwrap_or(0);
        let found: BTreeMap<_, _> = limits.0.keys().map(|name| (name.clone(), bytes(name))).collect();
        assert_eq!(found, self.volumes, "{}", self.case);
    }

    /// The annotation has what the containers had, whatever the notation.
    #[track_caller]
    fn check_kept(&self, before: &Value, after: &Value) {
        let text = after["metadata"]["annotations"][annotations::RESOURCES].as_str();
        let kept = text.map_or_else(PodResources::default, |text| {
            PodResources::parse(text).unwrap_or_else(|error| panic!("{}: {error}", self.case))
        });
        let of_pod = |value: &Value| exact(&own(value));
        let wanted: BTreeMap<_, _> = match &self.kept {
            Some(kept) => kept
                .iter()
                .map(|(name, one)| (name.clone(), exact(one)))
                .collect(),
            None => containers(before)
                .map(|container| (text_of(container, "name"), of_pod(&container["resources"])))
                .filter(|(_, exact)| !exact.is_empty())
                .collect(),
        };
        let found: BTreeMap<_, _> = kept
            .containers
            .iter()
            .map(|(name, one)| (name.clone(), exact(one)))
            .collect();
        assert_eq!(found, wanted, "{}", self.case);
        // The API server fills in the pod's own only after admission.
        let written = &self.pod()["spec"]["resources"];
        assert_eq!(exact(&kept.pod), of_pod(written), "{}", self.case);
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["containers", "initContainers"];
    kinds
        .into_iter()
        .flat_map(|kind| pod["spec"][kind].as_array().into_iter().flatten())
}

fn text_of(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

/// A container's resources but for the place for a VM; numbers as texts.
fn own(value: &Value) -> ContainerResources {
    let list = |kind: &str| {
        let entries = value[kind].as_object().into_iter().flatten();
        let entries = entries.filter(|(name, _)| *name != VM_RESOURCE);
        entries
            .map(|(name, value)| {
                (
                    name.clone(),
                    value.as_str().map_or(value.to_string(), str::to_owned),
                )
            })
            .collect()
    };
    ContainerResources {
        limits: list("limits"),
        requests: list("requests"),
    }
}

/// Quantities by kind and name. A limit without a request is one, as the API server writes it; what is finer than a
/// thousandth it rounds up.
fn exact(container: &ContainerResources) -> BTreeMap<(&'static str, String), u128> {
    let read = |text: &String| {
        text.parse::<Quantity>()
            .expect("a kept quantity is one")
            .whole_thousandths()
    };
    let limits = container
        .limits
        .iter()
        .map(|(name, text)| (("limits", name.clone()), read(text)));
    let mut exact: BTreeMap<_, _> = limits.collect();
    for (name, text) in container.limits.iter().chain(&container.requests) {
        exact.insert(("requests", name.clone()), read(text));
    }
    exact
}

/// A pod without what is ours to change.
fn without_ours(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("resources");
    }
    for kind in ["containers", "initContainers"] {
        for container in pod["spec"][kind].as_array_mut().into_iter().flatten() {
            container
                .as_object_mut()
                .map(|container| container.remove("resources"));
        }
    }
    let metadata = &mut pod["metadata"];
    if let Some(all) = metadata["annotations"].as_object_mut() {
        all.retain(|key, _| {
            key != annotations::RESOURCES
                && key != annotations::VOLUMES
                && key
                    .strip_prefix(annotations::HYPERVISOR)
                    .is_none_or(|end| !end.starts_with("default_"))
        });
    }
    if metadata["annotations"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        metadata
            .as_object_mut()
            .map(|metadata| metadata.remove("annotations"));
    }
    pod
}
