//! The function: what is changed of a pod.

use std::collections::BTreeMap;

use peerpods_api::{admission::PodAdmission, names::annotations};
use peerpods_resources::{ContainerResources, PodResources, VolumeLimits};
use serde_json::json;

use crate::{
    own::own,
    patch::{Operation, Patch, escaped},
    pod::{Container, Pod, Volume},
    refusal::Refusal,
    size::{Sized, size},
};

/// What is changed of a pod that is about to be created in `namespace`; nothing of a pod that is no peer pod, of one in an
/// excluded namespace, and of one that has been through here.
///
/// - All containers' and init containers' `resources` are emptied, and the pod's own are removed.
/// - The first container asks for one VM.
/// - What the containers asked for and may use goes into the annotation `kata.peerpods.io/resources`, and sizes the VM: by
///   the scheduler's rule, whole units rounded up, into Kata's annotations. A user's own annotation stays.
/// - How large its emptyDir volumes on disk may become is told by the annotation `kata.peerpods.io/volumes`.
///
/// # Errors
/// [`Refusal`]: the pod has what the API server, which does not get to see it, would have refused; or it needs more than
/// any VM has.
pub fn mutate(namespace: &str, pod: &Pod, admission: &PodAdmission) -> Result<Patch, Refusal> {
    let is_peer_pod = pod.spec.runtime_class_name.as_deref() == Some(&admission.runtime_class);
    // A pod without containers is the API server's to refuse.
    if !is_peer_pod || pod.spec.containers.is_empty() || admission.excluded_namespaces.contains(namespace) {
        return Ok(Patch::new());
    }
    let before = match pod.annotation(annotations::RESOURCES) {
        Some(text) => PodResources::parse(text)?,
        None => PodResources::default(),
    };
    let resources = resources(pod, &before, &admission.vm_resource)?;
    let (resources, mut annotations) = size_vm(pod, resources, &before)?;
    annotations.extend(volume_limits(pod).map(|limits| (annotations::VOLUMES.to_owned(), limits.print())));
    let mut patch = empty_resources(pod, &admission.vm_resource);
    patch.extend(set_annotations(pod, &before, &resources, annotations));
    Ok(patch)
}

/// All containers' own resources. One that has none now may have had some before: then this pod has been through here, and
/// another webhook added a container since.
fn resources(pod: &Pod, before: &PodResources, vm_resource: &str) -> Result<PodResources, Refusal> {
    let mut all = PodResources::default();
    for (container, field) in containers(pod) {
        let now = own(&container.resources, &field, vm_resource)?;
        let kept = || {
            before
                .containers
                .get(&container.name)
                .cloned()
                .unwrap_or_default()
        };
        let own = if now.is_empty() { kept() } else { now };
        if !own.is_empty() {
            all.containers.insert(container.name.clone(), own);
        }
    }
    let now = pod.spec.resources.as_ref();
    let now = now
        .map(|resources| own(resources, "spec.resources", vm_resource))
        .transpose()?;
    all.pod = now
        .filter(|now| !now.is_empty())
        .unwrap_or_else(|| before.pod.clone());
    Ok(all)
}

fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, String)> {
    let fields = |kind: &'static str| move |number| format!("spec.{kind}[{number}].resources");
    let containers = pod.spec.containers.iter().zip((0..).map(fields("containers")));
    let init_containers = pod
        .spec
        .init_containers
        .iter()
        .zip((0..).map(fields("initContainers")));
    containers.chain(init_containers)
}

/// Derives the VM's size, and says which annotations tell it: those that the user did not write.
fn size_vm(
    pod: &Pod,
    mut resources: PodResources,
    before: &PodResources,
) -> Result<(PodResources, BTreeMap<String, String>), Refusal> {
    let nothing = ContainerResources::default();
    let mut sized: Vec<_> = containers(pod)
        .map(|(container, field)| Sized {
            resources: resources.containers.get(&container.name).unwrap_or(&nothing),
            field,
            is_sidecar: container.is_sidecar(),
        })
        .collect();
    let init_containers = sized.split_off(pod.spec.containers.len());
    let size = size(&sized, &init_containers, &resources.pod)?;
    let mut annotations = BTreeMap::new();
    for (name, amount) in size {
        let key = format!("{}{name}", annotations::HYPERVISOR);
        let derived_before = before.vm.get(name).map(u32::to_string);
        let is_users = pod
            .annotation(&key)
            .is_some_and(|there| derived_before.as_deref() != Some(there));
        if !is_users {
            annotations.insert(key, amount.to_string());
            resources.vm.insert(name.to_owned(), amount);
        }
    }
    Ok((resources, annotations))
}

/// The limits of the volumes that have one.
fn volume_limits(pod: &Pod) -> Option<VolumeLimits> {
    let limits = pod.spec.volumes.iter().filter_map(Volume::limit_on_disk);
    let limits: BTreeMap<_, _> = limits
        .map(|(name, limit)| (name.to_owned(), limit.to_owned()))
        .collect();
    (!limits.is_empty()).then_some(VolumeLimits(limits))
}

fn empty_resources(pod: &Pod, vm_resource: &str) -> Patch {
    let mut patch = Patch::new();
    let paths = |kind: &'static str| (0..).map(move |number| format!("/spec/{kind}/{number}/resources"));
    let containers = pod.spec.containers.iter().zip(paths("containers"));
    let init_containers = pod.spec.init_containers.iter().zip(paths("initContainers"));
    for (number, (container, path)) in containers.chain(init_containers).enumerate() {
        if number == 0 {
            if !is_one_vm(container, vm_resource) {
                let value = json!({"limits": {vm_resource: "1"}, "requests": {vm_resource: "1"}});
                patch.push(Operation::Add { path, value });
            }
        } else if !container.resources.is_empty() {
            patch.push(Operation::Add {
                path,
                value: json!({}),
            });
        }
    }
    if pod.spec.resources.is_some() {
        let path = "/spec/resources".to_owned();
        patch.push(Operation::Remove { path });
    }
    patch
}

/// Whether a container asks for one VM, and for nothing else.
fn is_one_vm(container: &Container, vm_resource: &str) -> bool {
    let resources = &container.resources;
    let is_one = |list: &BTreeMap<_, crate::pod::QuantityText>| {
        list.len() == 1 && list.get(vm_resource).is_some_and(|text| text.0 == "1")
    };
    is_one(&resources.limits) && is_one(&resources.requests) && resources.claims.is_empty()
}

fn set_annotations(
    pod: &Pod,
    before: &PodResources,
    resources: &PodResources,
    mut annotations: BTreeMap<String, String>,
) -> Patch {
    if resources != before {
        annotations.insert(annotations::RESOURCES.to_owned(), resources.print());
    }
    annotations.retain(|key, value| pod.annotation(key) != Some(value));
    if annotations.is_empty() {
        return Patch::new();
    }
    if pod.metadata.annotations.is_none() {
        let path = "/metadata/annotations".to_owned();
        let value = json!(annotations);
        return vec![Operation::Add { path, value }];
    }
    let add = |(key, value): (String, String)| Operation::Add {
        path: format!("/metadata/annotations/{}", escaped(&key)),
        value: value.into(),
    };
    annotations.into_iter().map(add).collect()
}
