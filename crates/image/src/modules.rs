//! Which kernel modules the image carries, and in which order the guest loads them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Architecture, ImageError, elf};

/// What the guest needs, by where it runs and what it is told. A guest loads one platform's group and then `common`, and
/// others when they are needed, so each group is complete by itself.
const GROUPS: [Group; 5] = [
    // QEMU: the disk, network and entropy that it offers, and the boot payload it hands over.
    Group {
        name: "qemu",
        modules: &[
            "virtio_pci",
            "virtio_net",
            "virtio_blk",
            "virtio_rng",
            "qemu_fw_cfg",
        ],
    },
    // EC2: the network card of Nitro instances, and that of what stands in for one in tests. The kernel has NVMe built in.
    Group {
        name: "ec2",
        modules: &["ena", "virtio_pci", "virtio_net"],
    },
    // Every platform: container file systems, on scratch disks too, and the pod network.
    Group {
        name: COMMON,
        modules: &["ext4", "quota_v2", "overlay", "vxlan", "macvlan"],
    },
    // A pod's own way to the outside, and its guard.
    Group {
        name: "external",
        modules: &["sch_ingress", "cls_bpf"],
    },
    // Encrypted scratch disks. AES by the processor's own instructions is added for each architecture, and the kernel has the
    // other built in.
    Group {
        name: CRYPT,
        modules: &["dm_crypt", "xts"],
    },
];

/// The group that every platform loads, after its own.
const COMMON: &str = "common";
/// The group that VMs with encrypted disks load.
const CRYPT: &str = "crypt";

struct Group {
    name: &'static str,
    modules: &'static [&'static str],
}

/// The modules of a kernel, by canonical name (underscores, no suffix).
pub(crate) trait ModuleSource {
    /// The kernel's version.
    fn version(&self) -> &str;
    /// Whether the module is part of the kernel itself.
    fn is_built_in(&self, name: &str) -> bool;
    /// The module's file, if the kernel has it as a file.
    fn read(&self, name: &str) -> Option<Result<Vec<u8>, ImageError>>;
}

/// What the image carries: module files by name, and the load list.
#[derive(Debug, Default)]
pub(crate) struct ModuleSet {
    /// File name (`overlay.ko`) to contents.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Group and file name, in load order.
    pub(crate) load: Vec<(&'static str, String)>,
}

impl ModuleSet {
    /// The text of `/modules/load`.
    pub(crate) fn load_list(&self) -> String {
        self.load
            .iter()
            .map(|(group, file)| format!("{group} {file}\n"))
            .collect()
    }
}

/// Collects every group's modules with all that they depend on, dependencies first.
pub(crate) fn select(kernel: &dyn ModuleSource, architecture: Architecture) -> Result<ModuleSet, ImageError> {
    let mut set = ModuleSet::default();
    for group in GROUPS {
        let mut order = GroupOrder {
            kernel,
            group: group.name,
            set: &mut set,
            path: Vec::new(),
        };
        let mut loaded = BTreeSet::new();
        let instructions = match (group.name, architecture) {
            (CRYPT, Architecture::Amd64) => Some("aesni_intel"),
            (CRYPT, Architecture::Arm64) => Some("aes_ce_blk"),
            _ => None,
        };
        for module in group.modules.iter().copied().chain(instructions) {
            order.add(module, group.name, &mut loaded)?;
        }
    }
    Ok(set)
}

/// Walks the dependencies of one group's modules, depth first.
struct GroupOrder<'a> {
    kernel: &'a dyn ModuleSource,
    group: &'static str,
    set: &'a mut ModuleSet,
    path: Vec<String>,
}

impl GroupOrder<'_> {
    fn add(
        &mut self,
        module: &str,
        needed_by: &str,
        loaded: &mut BTreeSet<String>,
    ) -> Result<(), ImageError> {
        let name = canonical(module);
        if loaded.contains(&name) || self.kernel.is_built_in(&name) {
            return Ok(());
        }
        if self.path.contains(&name) {
            return Err(ImageError::ModuleCycle(name));
        }
        let bytes = self
            .kernel
            .read(&name)
            .ok_or_else(|| ImageError::MissingModule {
                version: self.kernel.version().to_owned(),
                module: name.clone(),
                needed_by: needed_by.to_owned(),
            })??;

        self.path.push(name.clone());
        for dependency in dependencies(&name, &bytes, self.kernel.version())? {
            self.add(&dependency, &name, loaded)?;
        }
        self.path.pop();

        let file = format!("{name}.ko");
        self.set.files.insert(file.clone(), bytes);
        self.set.load.push((self.group, file));
        loaded.insert(name);
        Ok(())
    }
}

/// The canonical name of a module: the kernel treats `virtio-rng` and `virtio_rng` as the same.
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The modules that must be loaded before this one, from the module's own description of itself.
fn dependencies(module: &str, object: &[u8], version: &str) -> Result<Vec<String>, ImageError> {
    let invalid = |reason: &str| ImageError::InvalidModule {
        module: module.to_owned(),
        reason: reason.to_owned(),
    };
    let modinfo = elf::section(object, ".modinfo").ok_or_else(|| invalid("it has no .modinfo section"))?;
    let text = std::str::from_utf8(modinfo).map_err(|_| invalid("its .modinfo is not text"))?;
    let value = |key: &str| {
        text.split('\0')
            .find_map(|entry| entry.split_once('=').filter(|(found, _)| *found == key))
            .map(|(_, v)| v)
    };
    let magic = value("vermagic").ok_or_else(|| invalid("it names no kernel version"))?;
    if magic.split(' ').next() != Some(version) {
        return Err(invalid(&format!(
            "it was built for {magic:?}, not for {version:?}"
        )));
    }
    let depends = value("depends").unwrap_or_default();
    let soft = value("softdep")
        .and_then(|softdep| softdep.strip_prefix("pre:"))
        .map(|names| names.split("post:").next().unwrap_or_default())
        .unwrap_or_default();
    Ok(depends
        .split(',')
        .chain(soft.split(' '))
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ModuleSource, select};
    use crate::{Architecture, ImageError, elf::tests::object_with_modinfo};

    struct Kernel {
        modules: BTreeMap<&'static str, Vec<u8>>,
        built_in: Vec<&'static str>,
    }

    impl Kernel {
        fn new(modules: &[(&'static str, &str)]) -> Self {
            let object = |depends: &str| {
                object_with_modinfo(format!("depends={depends}\0vermagic=6.1.0 SMP\0").as_bytes())
            };
            Self {
                modules: modules
                    .iter()
                    .map(|(name, depends)| (*name, object(depends)))
                    .collect(),
                built_in: vec!["ext4"],
            }
        }

        fn typical() -> Self {
            Self::new(&[
                ("virtio", ""),
                ("virtio_ring", "virtio"),
                ("virtio_pci", "virtio_ring,virtio"),
                ("virtio_net", "virtio_ring,virtio,net-failover"),
                ("net_failover", "failover"),
                ("failover", ""),
                ("virtio_blk", "virtio,virtio_ring"),
                ("virtio_rng", "virtio,virtio_ring"),
                ("qemu_fw_cfg", ""),
                ("ena", ""),
                ("quota_tree", ""),
                ("quota_v2", "quota_tree"),
                ("overlay", ""),
                ("vxlan", "udp_tunnel"),
                ("udp_tunnel", ""),
                ("macvlan", ""),
                ("sch_ingress", ""),
                ("cls_bpf", ""),
                ("dm_mod", ""),
                ("dm_crypt", "dm-mod"),
                ("xts", ""),
                ("aesni_intel", ""),
            ])
        }
    }

    impl ModuleSource for Kernel {
        fn version(&self) -> &str {
            "6.1.0"
        }
        fn is_built_in(&self, name: &str) -> bool {
            self.built_in.contains(&name)
        }
        fn read(&self, name: &str) -> Option<Result<Vec<u8>, ImageError>> {
            self.modules.get(name).cloned().map(Ok)
        }
    }

    #[test]
    fn every_module_comes_after_what_it_needs() {
        let set = select(&Kernel::typical(), Architecture::Amd64).unwrap();
        assert_eq!(
            set.load_list(),
            "qemu virtio.ko\nqemu virtio_ring.ko\nqemu virtio_pci.ko\nqemu failover.ko\nqemu net_failover.ko\n\
             qemu virtio_net.ko\nqemu virtio_blk.ko\nqemu virtio_rng.ko\nqemu qemu_fw_cfg.ko\nec2 ena.ko\n\
             ec2 virtio.ko\nec2 virtio_ring.ko\nec2 virtio_pci.ko\nec2 failover.ko\nec2 net_failover.ko\n\
             ec2 virtio_net.ko\n\
             common quota_tree.ko\ncommon quota_v2.ko\ncommon overlay.ko\ncommon udp_tunnel.ko\ncommon vxlan.ko\n\
             common macvlan.ko\nexternal sch_ingress.ko\nexternal cls_bpf.ko\n\
             crypt dm_mod.ko\ncrypt dm_crypt.ko\ncrypt xts.ko\ncrypt aesni_intel.ko\n"
        );
        assert!(set.load.iter().all(|(_, file)| set.files.contains_key(file)));
    }

    #[test]
    fn encryption_uses_the_processors_own_instructions() {
        let mut kernel = Kernel::typical();
        kernel.modules.remove("aesni_intel");
        kernel
            .modules
            .extend(Kernel::new(&[("aes_ce_blk", "aes-ce-cipher"), ("aes_ce_cipher", "")]).modules);
        let set = select(&kernel, Architecture::Arm64).unwrap();
        assert!(
            set.load_list()
                .ends_with("crypt xts.ko\ncrypt aes_ce_cipher.ko\ncrypt aes_ce_blk.ko\n")
        );
    }

    #[test]
    fn what_is_built_in_is_not_carried() {
        let mut kernel = Kernel::typical();
        kernel.modules.remove("overlay");
        kernel.built_in.push("overlay");
        let set = select(&kernel, Architecture::Amd64).unwrap();
        assert!(!set.load_list().contains("overlay"));
    }

    #[test]
    fn a_missing_dependency_is_named_with_what_needs_it() {
        let mut kernel = Kernel::typical();
        kernel.modules.remove("udp_tunnel");
        let error = select(&kernel, Architecture::Amd64).unwrap_err().to_string();
        assert_eq!(error, "kernel 6.1.0 has no module udp_tunnel, which vxlan needs");
    }

    #[test]
    fn a_circle_is_an_error() {
        let mut kernel = Kernel::typical();
        kernel
            .modules
            .extend(Kernel::new(&[("udp_tunnel", "vxlan")]).modules);
        assert!(
            matches!(select(&kernel, Architecture::Amd64), Err(ImageError::ModuleCycle(name)) if name == "vxlan")
        );
    }

    #[test]
    fn a_module_of_another_kernel_is_refused() {
        let mut kernel = Kernel::typical();
        kernel
            .modules
            .insert("overlay", object_with_modinfo(b"depends=\0vermagic=5.10.0 SMP\0"));
        let error = select(&kernel, Architecture::Amd64).unwrap_err().to_string();
        assert!(error.contains("overlay") && error.contains("5.10.0"), "{error}");
    }
}
