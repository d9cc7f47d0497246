//! The size of the VM, by the scheduler's own rule.

use std::collections::BTreeMap;

use peerpods_api::names::{GPU_RESOURCE, annotations};
use peerpods_resources::{ContainerResources, Quantity};

use crate::{own::amount, refusal::Refusal};

/// Bytes in the unit of the annotation of memory.
const MEBIBYTE: u128 = 1 << 20;
/// Kata reads the annotations as signed 32-bit numbers.
const MOST: u32 = i32::MAX.unsigned_abs();

/// A container with what it may use, and where that is written.
pub(crate) struct Sized<'a> {
    pub(crate) resources: &'a ContainerResources,
    pub(crate) field: String,
    pub(crate) is_sidecar: bool,
}

/// One dimension of a VM.
struct Dimension {
    resource: &'static str,
    /// The end of its annotation's name.
    annotation: &'static str,
    unit: &'static str,
    /// Whole units of the annotation, rounded up.
    whole: fn(Quantity) -> u128,
}

fn dimensions() -> [Dimension; 3] {
    let name = |annotation: &'static str| {
        annotation
            .strip_prefix(annotations::HYPERVISOR)
            .expect("the names of these annotations have one beginning")
    };
    [
        Dimension {
            resource: "cpu",
            annotation: name(annotations::DEFAULT_VCPUS),
            unit: "virtual CPUs",
            whole: Quantity::whole_units,
        },
        Dimension {
            resource: "memory",
            annotation: name(annotations::DEFAULT_MEMORY),
            unit: "MiB of memory",
            whole: |bytes| bytes.whole_units().div_ceil(MEBIBYTE),
        },
        Dimension {
            resource: GPU_RESOURCE,
            annotation: name(annotations::DEFAULT_GPUS),
            unit: "GPUs",
            whole: Quantity::whole_units,
        },
    ]
}

/// The VM's size, by the ends of the annotations' names; what nobody asks for is left out.
pub(crate) fn size(
    containers: &[Sized<'_>],
    init_containers: &[Sized<'_>],
    pod: &ContainerResources,
) -> Result<BTreeMap<&'static str, u32>, Refusal> {
    let mut size = BTreeMap::new();
    for dimension in dimensions() {
        let whole_pod = amount(pod, dimension.resource, "spec.resources")?;
        let needed = match whole_pod {
            Some(amount) => amount,
            None => needed(containers, init_containers, dimension.resource)?,
        };
        let amount = (dimension.whole)(needed);
        if amount > u128::from(MOST) {
            let unit = dimension.unit;
            return Err(Refusal::TooMuch { amount, unit });
        }
        if let Some(amount) = u32::try_from(amount).ok().filter(|amount| *amount > 0) {
            size.insert(dimension.annotation, amount);
        }
    }
    Ok(size)
}

/// The greater of all containers with all sidecars, and each init container with the sidecars started before it.
fn needed(
    containers: &[Sized<'_>],
    init_containers: &[Sized<'_>],
    resource: &str,
) -> Result<Quantity, Refusal> {
    let of = |container: &Sized<'_>| -> Result<Quantity, Refusal> {
        Ok(amount(container.resources, resource, &container.field)?.unwrap_or_default())
    };
    let (mut sidecars, mut at_start) = (Quantity::ZERO, Quantity::ZERO);
    for container in init_containers {
        let with_sidecars = sidecars.plus(of(container)?);
        at_start = at_start.max(with_sidecars);
        if container.is_sidecar {
            sidecars = with_sidecars;
        }
    }
    containers
        .iter()
        .try_fold(sidecars, |sum, container| Ok(sum.plus(of(container)?)))
        .map(|running| running.max(at_start))
}
