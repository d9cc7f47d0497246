//! From what a pod asks for to what QEMU gets: every request is checked before anything happens.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use peerpods_provider::{ProviderError, Shape};

use crate::{Placement, QemuSettings, error::QemuError};

/// The most CPUs of one VM: beyond any machine that would run pod VMs beside its own work.
const VCPU_LIMIT: u32 = 32;

/// The least memory of one VM: kernel, initrd and guest program may need 128 MiB at rest, and the pod as much.
const MEMORY_MINIMUM_MIB: u32 = 256;

/// What a VM has beyond what its pod asks for: the guest itself, and, in a VM without a scratch disk, the images.
const GUEST_MEMORY_MIB: u32 = 256;

/// The most characters of an image's name, as in a DNS label.
const IMAGE_NAME_LIMIT: usize = 63;

/// The VM that a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
}

impl Plan {
    /// What tells this VM from others: its size, and the files that it boots from as they are now.
    pub(crate) fn description(&self) -> Result<String, QemuError> {
        let mut text = format!("{} CPUs, {} MiB", self.vcpus, self.memory_mib);
        for path in [&self.kernel, &self.initrd] {
            text.push_str(&format!(", {}", file_version(path)?));
        }
        Ok(text)
    }

    /// The same VM, for a QEMU that runs there.
    pub(crate) fn seen_from(&self, placement: &Placement) -> Self {
        Self {
            kernel: placement.for_qemu(&self.kernel),
            initrd: placement.for_qemu(&self.initrd),
            ..self.clone()
        }
    }
}

/// A file's path, size and time: another text once the file was replaced. It is the time at which it came to where it is: in
/// container images all files have the same time of their content.
pub(crate) fn file_version(path: &Path) -> Result<String, QemuError> {
    let file = fs::metadata(path).map_err(QemuError::file("read", path))?;
    let (size, seconds, nanoseconds) = (file.len(), file.ctime(), file.ctime_nsec());
    Ok(format!("{} {size} {seconds}.{nanoseconds:09}", path.display()))
}

/// Works out the VM, or says why there cannot be one.
pub(crate) fn plan(settings: &QemuSettings, shape: &Shape) -> Result<Plan, ProviderError> {
    if let Some(gpus) = shape.gpus.filter(|gpus| *gpus > 0) {
        return invalid(format!(
            "{gpus} GPUs are asked for, and VMs on this machine have none"
        ));
    }
    if let Some(machine_type) = &shape.machine_type {
        return invalid(format!(
            "machine type {machine_type:?} is unknown: VMs on this machine have no types"
        ));
    }
    let vcpus = shape.vcpus.unwrap_or(settings.default_vcpus);
    check_vcpus(vcpus)?;
    // A pod's own limit never makes the VM smaller than one for a pod without a limit.
    let wanted = shape.memory_mib.unwrap_or(0).saturating_add(GUEST_MEMORY_MIB);
    let memory_mib = wanted.max(settings.default_memory_mib);
    check_memory(memory_mib)?;
    let (kernel, initrd) = match &shape.image {
        None => (settings.kernel.clone(), settings.initrd.clone()),
        Some(image) => image_files(&settings.images_dir, image)?,
    };
    Ok(Plan {
        vcpus,
        memory_mib,
        kernel: present(&kernel)?,
        initrd: present(&initrd)?,
    })
}

/// Whether a VM can have this many CPUs.
pub(crate) fn check_vcpus(vcpus: u32) -> Result<(), ProviderError> {
    if (1..=VCPU_LIMIT).contains(&vcpus) {
        return Ok(());
    }
    invalid(format!("{vcpus} CPUs are asked for; a VM has 1 to {VCPU_LIMIT}"))
}

/// Whether a VM can have this much memory; more than the machine has can never be.
pub(crate) fn check_memory(memory_mib: u32) -> Result<(), ProviderError> {
    let system = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion)] // The field's width differs between architectures.
    let machine_bytes = u64::from(system.totalram).saturating_mul(u64::from(system.mem_unit));
    let maximum = u32::try_from(machine_bytes >> 20).unwrap_or(u32::MAX);
    if (MEMORY_MINIMUM_MIB..=maximum).contains(&memory_mib) {
        return Ok(());
    }
    invalid(format!(
        "a VM of {memory_mib} MiB of memory would be needed; it can have {MEMORY_MINIMUM_MIB} to {maximum} MiB here"
    ))
}

fn image_files(images_dir: &Path, image: &str) -> Result<(PathBuf, PathBuf), ProviderError> {
    let is_name = (1..=IMAGE_NAME_LIMIT).contains(&image.len())
        && !image.starts_with('.')
        && image
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let directory = images_dir.join(image);
    if is_name && directory.is_dir() {
        return Ok((directory.join("vmlinuz"), directory.join("initrd.img")));
    }
    let known = known_images(images_dir);
    let known = if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    invalid(format!(
        "VM image {image:?} is unknown: {known} in {}",
        images_dir.display()
    ))
}

fn known_images(images_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(images_dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect();
    names.sort();
    names
}

/// The file's absolute path, as QEMU runs in another directory.
fn present(path: &Path) -> Result<PathBuf, ProviderError> {
    path.canonicalize()
        .map_err(|error| ProviderError::InvalidRequest(format!("VM image file {}: {error}", path.display())))
}

fn invalid<T>(message: String) -> Result<T, ProviderError> {
    Err(ProviderError::InvalidRequest(message))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use peerpods_provider::Shape;
    use tempfile::TempDir;

    use super::plan;
    use crate::{QemuSettings, settings::tests::settings};

    /// Settings whose default image and image `gpu-less` exist.
    fn machine() -> (TempDir, QemuSettings) {
        let directory = TempDir::new().unwrap();
        let images_dir = directory.path().join("images");
        for image in [directory.path().to_owned(), images_dir.join("gpu-less")] {
            fs::create_dir_all(&image).unwrap();
            fs::write(image.join("vmlinuz"), "kernel").unwrap();
            fs::write(image.join("initrd.img"), "initrd").unwrap();
        }
        let kernel = directory.path().join("vmlinuz");
        let initrd = directory.path().join("initrd.img");
        (
            directory,
            QemuSettings {
                images_dir,
                kernel,
                initrd,
                ..settings()
            },
        )
    }

    #[test]
    fn a_pod_that_asks_for_nothing_gets_the_defaults() {
        let (_directory, settings) = machine();
        let plan = plan(&settings, &Shape::default()).unwrap();
        assert_eq!((plan.vcpus, plan.memory_mib), (1, 512));
        assert_eq!(plan.kernel, settings.kernel.canonicalize().unwrap());
    }

    #[test]
    fn what_a_pod_asks_for_is_its_own_beside_the_guest() {
        let (_directory, settings) = machine();
        let memory = |memory_mib| {
            let shape = Shape {
                memory_mib: Some(memory_mib),
                ..Shape::default()
            };
            plan(&settings, &shape).unwrap().memory_mib
        };
        assert_eq!((memory(32), memory(1024)), (512, 1024 + 256));
    }

    #[test]
    fn a_named_image_is_taken_from_its_directory() {
        let (_directory, settings) = machine();
        let shape = Shape {
            image: Some("gpu-less".to_owned()),
            vcpus: Some(2),
            ..Shape::default()
        };
        let plan = plan(&settings, &shape).unwrap();
        assert!(plan.initrd.ends_with("images/gpu-less/initrd.img"));
        assert_eq!(plan.vcpus, 2);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let (_directory, settings) = machine();
        let refused = |shape: Shape| {
            let error = plan(&settings, &shape).unwrap_err();
            assert!(!error.retryable());
            error.to_string()
        };
        let image = |name: &str| Shape {
            image: Some(name.to_owned()),
            ..Shape::default()
        };
        assert!(refused(image("other")).contains("there are gpu-less"));
        assert!(refused(image("../images/gpu-less")).contains("unknown"));
        assert!(refused(image("")).contains("unknown"));
        assert!(
            refused(Shape {
                gpus: Some(1),
                ..Shape::default()
            })
            .contains("GPUs")
        );
        assert!(
            refused(Shape {
                vcpus: Some(33),
                ..Shape::default()
            })
            .contains("33 CPUs")
        );
        assert!(
            refused(Shape {
                vcpus: Some(0),
                ..Shape::default()
            })
            .contains("0 CPUs")
        );
        assert!(
            refused(Shape {
                memory_mib: Some(u32::MAX),
                ..Shape::default()
            })
            .contains("MiB here")
        );
        let machine_type = Some("m5.large".to_owned());
        assert!(
            refused(Shape {
                machine_type,
                ..Shape::default()
            })
            .contains("m5.large")
        );
    }
}
