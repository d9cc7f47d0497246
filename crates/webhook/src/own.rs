//! The requests and limits that are a container's own: read, checked as the API server would, and kept.

use std::collections::BTreeMap;

use peerpods_resources::{ContainerResources, Quantity, ResourceList};

use crate::{
    pod::{QuantityText, Resources},
    refusal::Refusal,
};

/// What a container, or the pod, says itself: everything but the place for a VM.
pub(crate) fn own(
    resources: &Resources,
    field: &str,
    vm_resource: &str,
) -> Result<ContainerResources, Refusal> {
    let own = |list: &BTreeMap<String, QuantityText>| -> ResourceList {
        let others = list.iter().filter(|(name, _)| *name != vm_resource);
        others
            .map(|(name, text)| (name.clone(), text.0.clone()))
            .collect()
    };
    let own = ContainerResources {
        limits: own(&resources.limits),
        requests: own(&resources.requests),
    };
    check(&own, field)?;
    Ok(own)
}

/// A container's limit of a resource, else its request, else nothing.
pub(crate) fn amount(
    container: &ContainerResources,
    resource: &str,
    field: &str,
) -> Result<Option<Quantity>, Refusal> {
    let lists = [("limits", &container.limits), ("requests", &container.requests)];
    let found = lists
        .into_iter()
        .find_map(|(kind, list)| Some((kind, list.get(resource)?)));
    found
        .map(|(kind, text)| read(text, || place(field, kind, resource)))
        .transpose()
}

fn check(container: &ContainerResources, field: &str) -> Result<(), Refusal> {
    for (kind, list) in [("limits", &container.limits), ("requests", &container.requests)] {
        for (resource, text) in list {
            let field = || place(field, kind, resource);
            if !is_known(resource) {
                return Err(Refusal::UnknownResource {
                    field: field(),
                    resource: resource.clone(),
                });
            }
            let quantity = read(text, field)?;
            if quantity.is_negative() {
                return Err(Refusal::Negative { field: field() });
            }
            if is_in_pieces(resource) && !quantity.is_whole() {
                return Err(Refusal::Divided { field: field() });
            }
        }
    }
    container
        .requests
        .iter()
        .try_for_each(|(resource, text)| check_request(container, resource, text, field))
}

fn check_request(
    container: &ContainerResources,
    resource: &str,
    text: &str,
    field: &str,
) -> Result<(), Refusal> {
    let field = || place(field, "requests", resource);
    let shared = !is_in_pieces(resource);
    let limit = container
        .limits
        .get(resource)
        .map(|limit| read(limit, field))
        .transpose()?;
    let request = read(text, field)?;
    let resource = resource.to_owned();
    match limit {
        None if shared => Ok(()),
        Some(limit) if shared && request > limit => Err(Refusal::AboveLimit {
            field: field(),
            resource,
        }),
        Some(limit) if shared || request == limit => Ok(()),
        None | Some(_) => Err(Refusal::NotTheLimit {
            field: field(),
            resource,
        }),
    }
}

fn read(text: &str, field: impl Fn() -> String) -> Result<Quantity, Refusal> {
    text.parse().map_err(|source| Refusal::Quantity {
        field: field(),
        source,
    })
}

fn place(field: &str, kind: &str, resource: &str) -> String {
    format!("{field}.{kind}[{resource}]")
}

/// Names that Kubernetes knows, and those of whoever owns a domain.
fn is_known(resource: &str) -> bool {
    let is_word = |word: &str| {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        !word.is_empty() && word.chars().all(is_letter)
    };
    match (resource, resource.split_once('/')) {
        ("cpu" | "memory" | "ephemeral-storage", _) => true,
        (_, Some((domain, name))) => is_word(domain) && is_word(name),
        (_, None) => resource.strip_prefix("hugepages-").is_some_and(is_word),
    }
}

/// Devices and the like: whole, and never promised twice.
fn is_in_pieces(resource: &str) -> bool {
    resource.contains('/') || resource.starts_with("hugepages-")
}
