//! Kernel modules, in the order that the image's build worked out.

use std::{fs, path::Path};

use rustix::{io::Errno, system::finit_module};

use crate::error::GuestError;

const FOLDER: &str = "/modules";
/// The group that every platform needs.
const COMMON: &str = "common";

/// Loads the modules of one platform's group and those of every platform.
pub(super) fn load(platform_group: &str) -> Result<(), GuestError> {
    let list = Path::new(FOLDER).join("load");
    let text = fs::read_to_string(&list).map_err(GuestError::file("read", &list))?;
    for group in [platform_group, COMMON] {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        for (_, file) in lines.filter(|(of, _)| *of == group) {
            load_one(&Path::new(FOLDER).join(file))?;
        }
    }
    Ok(())
}

fn load_one(path: &Path) -> Result<(), GuestError> {
    let file = fs::File::open(path).map_err(GuestError::file("open", path))?;
    match finit_module(file, c"", 0) {
        // Two groups may need the same module.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(GuestError::file("load the kernel module", path)(error.into())),
    }
}
