//! Which instance type a pod gets, and which ones after it when there is no room.

use std::cmp::Reverse;

use peerpods_provider::{ProviderError, Shape};

use super::{Architecture, Catalog, InstanceType};

/// What a VM needs beside its pod: the kernel, the guest, and what EC2 keeps of the memory that it names.
const GUEST_MEMORY_MIB: u32 = 256;

/// How many types a refusal names: enough to see what is missing.
const NEAREST: usize = 3;

/// What a pod asks for.
#[derive(Clone, Copy, Debug)]
struct Need {
    vcpus: u32,
    /// The pod's own.
    memory_mib: u32,
    gpus: u32,
    architecture: Architecture,
}

impl Catalog {
    /// The types that a VM image for `architecture` runs on, with as many network interfaces as VMs have.
    fn usable(&self, architecture: Architecture) -> impl Iterator<Item = &InstanceType> {
        self.types.iter().filter(move |candidate| {
            candidate.architectures.contains(&architecture) && candidate.interfaces >= self.interfaces.count()
        })
    }
}

impl Need {
    fn is_met_by(&self, candidate: &InstanceType) -> bool {
        candidate.vcpus >= self.vcpus
            && candidate.memory_mib >= self.vm_memory_mib()
            && candidate.gpus >= self.gpus
    }

    fn vm_memory_mib(&self) -> u32 {
        match self.memory_mib {
            0 => 0,
            memory => memory.saturating_add(GUEST_MEMORY_MIB),
        }
    }

    /// How far a type is from enough, in thousandths of what is needed.
    fn shortfall(&self, candidate: &InstanceType) -> u64 {
        let part =
            |has: u32, needs: u32| u64::from(needs.saturating_sub(has)) * 1000 / u64::from(needs.max(1));
        part(candidate.vcpus, self.vcpus)
            + part(candidate.memory_mib, self.vm_memory_mib())
            + part(candidate.gpus, self.gpus)
    }
}

/// The types to try for `shape`, in order: the one that it names; else the cheapest that fits, and dearer ones after it;
/// for a shape that asks for nothing, the default and what is at least as large.
///
/// # Errors
/// [`ProviderError::InvalidRequest`]: the type is not allowed, or none is large enough; the nearest are named.
pub(crate) fn choose<'a>(
    catalog: &'a Catalog,
    shape: &Shape,
    architecture: Architecture,
) -> Result<Vec<&'a InstanceType>, ProviderError> {
    if let Some(name) = &shape.machine_type {
        return named(catalog, name, architecture).map(|found| vec![found]);
    }
    let asked = Need {
        vcpus: shape.vcpus.unwrap_or(0),
        memory_mib: shape.memory_mib.unwrap_or(0),
        gpus: shape.gpus.unwrap_or(0),
        architecture,
    };
    let asks_for_nothing = asked.vcpus == 0 && asked.memory_mib == 0 && asked.gpus == 0;
    let mut fitting: Vec<&InstanceType> = if asks_for_nothing {
        let default = named(catalog, &catalog.default, architecture).map_err(|error| match error {
            ProviderError::InvalidRequest(problem) => ProviderError::InvalidRequest(format!(
                "{problem}; PODVM_INSTANCE_TYPE in peer-pods-cm names the type of pods that ask for nothing"
            )),
            other => other,
        })?;
        let as_large = |other: &&InstanceType| {
            other.vcpus >= default.vcpus
                && other.memory_mib >= default.memory_mib
                && other.gpus >= default.gpus
        };
        catalog.usable(architecture).filter(as_large).collect()
    } else {
        catalog
            .usable(architecture)
            .filter(|candidate| asked.is_met_by(candidate))
            .collect()
    };
    if fitting.is_empty() {
        return Err(too_small(catalog, &asked));
    }
    fitting.sort_by_key(|candidate| {
        let after_default = asks_for_nothing && candidate.name != catalog.default;
        // Nobody knows what a type without a price costs, so those that have one come first.
        let unknown = candidate.price.is_none();
        let size = (candidate.gpus, candidate.memory_mib, candidate.vcpus);
        (
            after_default,
            unknown,
            candidate.price,
            size,
            candidate.name.as_str(),
        )
    });
    Ok(fitting)
}

fn named<'a>(
    catalog: &'a Catalog,
    name: &str,
    architecture: Architecture,
) -> Result<&'a InstanceType, ProviderError> {
    let Some(found) = catalog.types.iter().find(|known| known.name == name) else {
        let allowed: Vec<&str> = catalog.types.iter().map(|known| known.name.as_str()).collect();
        return Err(ProviderError::InvalidRequest(format!(
            "instance type {name:?} is not allowed: there are {}; PODVM_INSTANCE_TYPES in peer-pods-cm allows others",
            allowed.join(", ")
        )));
    };
    if !found.architectures.contains(&architecture) {
        return Err(ProviderError::InvalidRequest(format!(
            "instance type {name} does not run VM images for {architecture}"
        )));
    }
    let (has, needs) = (found.interfaces, catalog.interfaces.count());
    if has < needs {
        return Err(ProviderError::InvalidRequest(format!(
            "instance type {name} has {has} network interface, and EXTERNAL_NETWORK_VIA_PODVM needs {needs}"
        )));
    }
    Ok(found)
}

fn too_small(catalog: &Catalog, asked: &Need) -> ProviderError {
    let mut nearest: Vec<&InstanceType> = catalog.usable(asked.architecture).collect();
    nearest.sort_by_key(|candidate| (asked.shortfall(candidate), Reverse(candidate.memory_mib)));
    let nearest: Vec<String> = nearest.iter().take(NEAREST).map(ToString::to_string).collect();
    let nearest = if nearest.is_empty() {
        "none is".to_owned()
    } else {
        format!("the nearest are {}", nearest.join(", "))
    };
    ProviderError::InvalidRequest(format!(
        "no allowed instance type for {} has {} vCPUs, {} MiB of memory ({} MiB of them the guest's) and {} GPUs: {nearest}; \
         PODVM_INSTANCE_TYPES in peer-pods-cm allows others",
        asked.architecture,
        asked.vcpus,
        asked.vm_memory_mib(),
        asked.vm_memory_mib() - asked.memory_mib,
        asked.gpus,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interfaces, types::Prices};

    fn catalog(types: &[(&str, u32, u32, u32)]) -> Catalog {
        let prices = Prices::bundled();
        let types = types.iter().map(|(name, vcpus, memory_gib, gpus)| InstanceType {
            name: (*name).to_owned(),
            vcpus: *vcpus,
            memory_mib: memory_gib * 1024,
            gpus: *gpus,
            architectures: [if name.contains("g.") {
                Architecture::Arm
            } else {
                Architecture::X86
            }]
            .into(),
            interfaces: if name.starts_with("c6a.") { 1 } else { 3 },
            price: prices.of(name),
        });
        Catalog {
            default: "m6a.large".to_owned(),
            types: types.collect(),
            interfaces: Interfaces::One,
        }
    }

    /// CPU-heavy, memory-heavy and balanced types together, in no order.
    fn usual() -> Catalog {
        catalog(&[
            ("r6a.2xlarge", 8, 64, 0),
            ("c6a.4xlarge", 16, 32, 0),
            ("m6a.large", 2, 8, 0),
            ("g4dn.xlarge", 4, 16, 1),
            ("c6a.large", 2, 4, 0),
            ("m6g.large", 2, 8, 0),
            ("g5.xlarge", 4, 16, 1),
        ])
    }

    fn shape(vcpus: u32, memory_mib: u32, gpus: u32) -> Shape {
        let some = |value| (value > 0).then_some(value);
        Shape {
            vcpus: some(vcpus),
            memory_mib: some(memory_mib),
            gpus: some(gpus),
            ..Shape::default()
        }
    }

    fn chosen(shape: &Shape) -> Vec<String> {
        let catalog = usual();
        let found = choose(&catalog, shape, Architecture::X86).unwrap();
        found.into_iter().map(|found| found.name.clone()).collect()
    }

    fn refused(shape: &Shape) -> String {
        let error = choose(&usual(), shape, Architecture::X86).unwrap_err();
        assert!(!error.retryable());
        error.to_string()
    }

    #[test]
    fn the_cheapest_that_fits_comes_first() {
        // Many CPUs and little memory: a search that halves a list sorted by memory misses it.
        assert_eq!(chosen(&shape(16, 2048, 0)), ["c6a.4xlarge"]);
        assert_eq!(
            chosen(&shape(1, 1024, 0)),
            [
                "c6a.large",
                "m6a.large",
                "r6a.2xlarge",
                "g4dn.xlarge",
                "c6a.4xlarge",
                "g5.xlarge"
            ]
        );
        assert_eq!(chosen(&shape(0, 6000, 0))[0], "m6a.large");
        assert_eq!(chosen(&shape(3, 0, 0))[0], "r6a.2xlarge");
        assert_eq!(chosen(&shape(0, 0, 1)), ["g4dn.xlarge", "g5.xlarge"]);
    }

    #[test]
    fn what_a_pod_asks_for_is_its_own_beside_the_guest() {
        assert_eq!(chosen(&shape(1, 8192 - 256, 0))[0], "m6a.large");
        assert_eq!(chosen(&shape(1, 8192, 0))[0], "r6a.2xlarge");
    }

    #[test]
    fn who_asks_for_nothing_gets_the_default_or_something_as_large() {
        let all = chosen(&Shape::default());
        assert_eq!(all[0], "m6a.large");
        assert!(
            !all.contains(&"c6a.large".to_owned()) && all.len() == 5,
            "{all:?}"
        );
    }

    #[test]
    fn who_names_a_type_gets_that_or_none() {
        let named = |name: &str| Shape {
            machine_type: Some(name.to_owned()),
            ..shape(64, 0, 0)
        };
        assert_eq!(chosen(&named("g5.xlarge")), ["g5.xlarge"]);
        assert!(refused(&named("p5.48xlarge")).contains("there are r6a.2xlarge, c6a.4xlarge"));
        assert!(refused(&named("m6g.large")).contains("does not run VM images for x86_64"));
    }

    #[test]
    fn an_image_for_arm_gets_types_for_arm_alone() {
        let mut catalog = usual();
        for shape in [shape(1, 1024, 0), shape(0, 0, 0)] {
            catalog.default = "m6g.large".to_owned();
            let found = choose(&catalog, &shape, Architecture::Arm).unwrap();
            assert_eq!(
                found.iter().map(|found| &*found.name).collect::<Vec<_>>(),
                ["m6g.large"]
            );
            assert!(choose(&catalog, &self::shape(64, 0, 0), Architecture::Arm).is_err());
        }
        catalog.default = "m6a.large".to_owned();
        let error = choose(&catalog, &Shape::default(), Architecture::Arm).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("m6a.large does not run VM images for arm64; PODVM_INSTANCE_TYPE"),
            "{error}"
        );
    }

    #[test]
    fn a_type_without_room_for_a_second_interface_is_left_out() {
        let catalog = Catalog {
            interfaces: Interfaces::Two,
            ..usual()
        };
        let found = choose(&catalog, &shape(1, 1024, 0), Architecture::X86).unwrap();
        assert_eq!(found[0].name, "m6a.large", "c6a.large costs less");
        let shape = Shape {
            machine_type: Some("c6a.large".to_owned()),
            ..Shape::default()
        };
        let error = choose(&catalog, &shape, Architecture::X86)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("c6a.large has 1 network interface, and EXTERNAL_NETWORK_VIA_PODVM needs 2"),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_names_the_nearest() {
        let text = refused(&shape(16, 40_000, 0));
        assert!(
            text.contains("16 vCPUs, 40256 MiB of memory (256 MiB of them the guest's) and 0 GPUs"),
            "{text}"
        );
        assert!(
            text.contains("nearest are c6a.4xlarge (16 vCPUs, 32768 MiB), r6a.2xlarge (8 vCPUs, 65536 MiB)"),
            "{text}"
        );
        assert!(refused(&shape(0, 0, 2)).contains("g4dn.xlarge (4 vCPUs, 16384 MiB, 1 GPUs)"));
        assert!(refused(&shape(0, u32::MAX, 0)).contains("no allowed instance type"));
    }

    #[test]
    fn a_type_without_a_price_is_the_last_resort() {
        let catalog = catalog(&[("m6a.large", 2, 8, 0), ("x9.large", 2, 8, 0)]);
        let found = choose(&catalog, &shape(2, 0, 0), Architecture::X86).unwrap();
        assert_eq!(found.last().unwrap().name, "x9.large");
    }
}
