//! Kernel modules, in the order that the image's build worked out.

use std::{fs, path::Path};

use rustix::{io::Errno, system::finit_module};

use crate::error::GuestError;

/// Where they are, also after the change of root: what few VMs need is loaded when they do.
pub(super) const FOLDER: &str = "/modules";

/// Loads the modules of a group; those of processors that this one is not are left out.
pub(crate) fn load(group: &str) -> Result<(), GuestError> {
    let list = Path::new(FOLDER).join("load");
    let text = fs::read_to_string(&list).map_err(GuestError::file("read", &list))?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    for (_, file) in lines.filter(|(of, _)| *of == group) {
        load_one(&Path::new(FOLDER).join(file))?;
    }
    Ok(())
}

fn load_one(path: &Path) -> Result<(), GuestError> {
    let file = fs::File::open(path).map_err(GuestError::file("open", path))?;
    match finit_module(file, c"", 0) {
        // Two groups may need the same module. A processor without what a module is for says that there is no device.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        Err(error) => Err(GuestError::file("load the kernel module", path)(error.into())),
    }
}
