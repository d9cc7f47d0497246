//! The build: inputs are read, checked and put together, and only then is anything written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Architecture, BlockList, DiskRecord, FileRecord, ImageError, Manifest, StubSource, disk, initrd,
    kernel::{self, Kernel},
    modules::{self, ModuleSource},
    unified,
};

/// The most that kernel and initrd may have together: they are loaded into the VM's memory at every start,
/// and a VM of 512 MiB must keep nearly all of it for the pod.
pub const IMAGE_LIMIT_BYTES: usize = 64 << 20;

/// The disk's file.
const DISK: &str = "disk.raw";

/// Where the kernel comes from.
#[derive(Clone, Debug)]
pub enum KernelSource {
    /// A Debian package `linux-image-*.deb`.
    Package(PathBuf),
    /// A tree with `boot/vmlinuz-VERSION` and `lib/modules/VERSION`.
    Tree(PathBuf),
}

/// What to build, and where.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The guest program, PID 1 of the VM.
    pub guest: PathBuf,
    /// The kernel.
    pub kernel: KernelSource,
    /// Where the EFI stub comes from, for a disk besides kernel and initrd.
    pub stub: Option<StubSource>,
    /// The directory for the outputs; it is made when it is not there.
    pub output: PathBuf,
}

/// Builds the image; `progress` gets one line per step, for a person.
pub fn build(request: &BuildRequest, mut progress: impl FnMut(&str)) -> Result<Manifest, ImageError> {
    let guest = kernel::read(&request.guest)?;
    progress(&format!(
        "guest: {} KiB from {}",
        guest.len() >> 10,
        request.guest.display()
    ));

    let kernel = match &request.kernel {
        KernelSource::Package(package) => {
            progress(&format!("kernel: unpacking {}", package.display()));
            Kernel::from_package(package)?
        }
        KernelSource::Tree(tree) => Kernel::from_tree(tree)?,
    };
    let vmlinuz = kernel.vmlinuz()?;
    progress(&format!(
        "kernel: {}, {} KiB",
        kernel.version(),
        vmlinuz.len() >> 10
    ));

    let architecture = Architecture::of_program(&vmlinuz, "kernel")?;
    architecture.check_guest(&guest)?;

    let modules = modules::select(&kernel, architecture)?;
    let module_bytes: usize = modules.files.values().map(Vec::len).sum();
    progress(&format!(
        "modules: {} files, {} KiB",
        modules.files.len(),
        module_bytes >> 10
    ));

    let initrd = initrd::archive(&guest, &modules)?;
    progress(&format!("initrd: {} KiB", initrd.len() >> 10));
    check_size(&vmlinuz, &initrd, &guest)?;

    fs::create_dir_all(&request.output).map_err(|source| ImageError::Write {
        path: request.output.clone(),
        source,
    })?;
    write(&request.output, "vmlinuz", &vmlinuz)?;
    write(&request.output, "initrd.img", &initrd)?;
    let disk = match &request.stub {
        Some(source) => {
            let stub = source.read(architecture)?;
            let unified = unified::unified(&stub, &vmlinuz, &initrd, architecture)?;
            let list = write_disk(&request.output, &unified, architecture)?;
            progress(&format!("disk: {} KiB of data", list.data_bytes() >> 10));
            Some(DiskRecord::of(&stub, &list))
        }
        None => None,
    };
    let manifest = Manifest {
        architecture,
        kernel_version: kernel.version().to_owned(),
        guest: FileRecord::of(&guest),
        kernel: FileRecord::of(&vmlinuz),
        initrd: FileRecord::of(&initrd),
        modules: modules.load_list().lines().map(str::to_owned).collect(),
        disk,
    };
    let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
    text.push('\n');
    write(&request.output, "manifest.json", text.as_bytes())?;
    progress(&format!("image: written to {}", request.output.display()));
    Ok(manifest)
}

fn check_size(vmlinuz: &[u8], initrd: &[u8], guest: &[u8]) -> Result<(), ImageError> {
    if vmlinuz.len() + initrd.len() <= IMAGE_LIMIT_BYTES {
        return Ok(());
    }
    Err(ImageError::ImageTooLarge {
        kernel_bytes: vmlinuz.len(),
        initrd_bytes: initrd.len(),
        guest_bytes: guest.len(),
        limit: IMAGE_LIMIT_BYTES,
    })
}

/// Writes beside the target and renames, so that a VM never starts from half a file.
fn write(directory: &Path, name: &str, contents: &[u8]) -> Result<(), ImageError> {
    let partial = partial(directory, name);
    fs::write(&partial, contents).map_err(|source| ImageError::Write {
        path: partial.clone(),
        source,
    })?;
    finish(&partial, directory, name)
}

fn write_disk(directory: &Path, unified: &[u8], architecture: Architecture) -> Result<BlockList, ImageError> {
    let partial = partial(directory, DISK);
    let list = disk::write(&partial, unified, architecture)?;
    finish(&partial, directory, DISK)?;
    Ok(list)
}

fn partial(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!(".{name}.partial"))
}

fn finish(partial: &Path, directory: &Path, name: &str) -> Result<(), ImageError> {
    let path = directory.join(name);
    fs::rename(partial, &path).map_err(|source| ImageError::Write { path, source })
}
