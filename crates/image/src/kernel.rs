//! A kernel and its modules, from a Debian package or the tree it unpacks to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    ImageError,
    modules::{ModuleSource, canonical},
    package,
};

/// Where modules lie in a tree: before and after Debian moved everything below `/usr`.
const MODULE_ROOTS: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// A kernel tree, read as far as needed.
pub(crate) struct Kernel {
    version: String,
    vmlinuz: PathBuf,
    /// Canonical name to file.
    modules: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    /// Keeps an unpacked package until the build is done.
    _unpacked: Option<TempDir>,
}

impl Kernel {
    /// Unpacks a package `linux-image-*` and opens what was in it.
    pub(crate) fn from_package(package: &Path) -> Result<Self, ImageError> {
        let directory = package::unpack(package)?;
        let mut kernel = Self::from_tree(directory.path())?;
        kernel._unpacked = Some(directory);
        Ok(kernel)
    }

    /// Opens a tree that holds exactly one kernel: `boot/vmlinuz-VERSION` and `lib/modules/VERSION`.
    pub(crate) fn from_tree(tree: &Path) -> Result<Self, ImageError> {
        let boot = tree.join("boot");
        let images = names(&boot)?
            .into_iter()
            .filter(|name| name.starts_with("vmlinuz-"))
            .collect();
        let image = only(tree, "boot/vmlinuz-*", images)?;
        let version = image.trim_start_matches("vmlinuz-").to_owned();

        let candidates = MODULE_ROOTS.iter().map(|root| tree.join(root).join(&version));
        let found: Vec<PathBuf> = candidates.filter(|path| path.is_dir()).collect();
        let Some(modules) = found.first() else {
            return Err(ImageError::KernelCount {
                tree: tree.to_owned(),
                what: "lib/modules directory of its kernel",
                found: vec![],
            });
        };
        Ok(Self {
            vmlinuz: boot.join(image),
            modules: index(modules, "modules.order")?,
            built_in: index(modules, "modules.builtin")?.into_keys().collect(),
            version,
            _unpacked: None,
        })
    }

    /// The bootable kernel.
    pub(crate) fn vmlinuz(&self) -> Result<Vec<u8>, ImageError> {
        read(&self.vmlinuz)
    }
}

impl ModuleSource for Kernel {
    fn version(&self) -> &str {
        &self.version
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    fn read(&self, name: &str) -> Option<Result<Vec<u8>, ImageError>> {
        self.modules.get(name).map(|path| read(path))
    }
}

/// Reads one of the lists that the kernel's build leaves beside its modules: one path per line.
fn index(directory: &Path, list: &str) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let path = directory.join(list);
    let text = fs::read_to_string(&path).map_err(|source| ImageError::Read { path, source })?;
    let entry = |line: &str| {
        let stem = Path::new(line).file_stem()?.to_str()?;
        Some((canonical(stem), directory.join(line)))
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn only(tree: &Path, what: &'static str, mut found: Vec<String>) -> Result<String, ImageError> {
    match (found.pop(), found.is_empty()) {
        (Some(name), true) => Ok(name),
        (last, _) => {
            found.extend(last);
            Err(ImageError::KernelCount {
                tree: tree.to_owned(),
                what,
                found,
            })
        }
    }
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> Result<Vec<String>, ImageError> {
    let failed = |source| ImageError::Read {
        path: directory.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })
}
