//! Keeps containers from the disk under their files.
//!
//! A container that may make device nodes, as containers may by default, could open the disk, read what other containers
//! of its pod wrote, and break the file system that the kernel has mounted. An eBPF program at the control group of all
//! containers refuses this one device, and what else leads to it; the guest itself is in another group.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
};

use peerpods_bpf::{
    self as bpf, Kind,
    instruction::{Instruction, R0, R1, R2, and, exit, jump_unless, load, set},
};
use rustix::fs::{major, minor};

use super::disk::ScratchDevice;
use crate::{container::Cgroup, error::GuestError};

/// By this name `bpftool` lists the program.
const PROGRAM: &str = "scratch_guard";

/// Fields of the context, `struct bpf_cgroup_dev_ctx` of linux/bpf.h.
const ACCESS_AND_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
/// The half of the first field that is the device's type, and its values.
const TYPE: i32 = 0xffff;
const BLOCK_DEVICE: i32 = 1;
const CHARACTER_DEVICE: i32 = 2;

const REFUSED: i32 = 0;
const ALLOWED: i32 = 1;
/// The position that is jumped to.
const ALLOW: i16 = 9;

/// Refuses the device, and what else leads to its disk, to all containers, in whatever way they would use it.
pub(super) fn refuse(found: &ScratchDevice) -> Result<(), GuestError> {
    let group = Cgroup::of_all();
    fs::create_dir_all(&group).map_err(GuestError::file("make", &group))?;
    let directory = File::open(&group).map_err(GuestError::file("open", &group))?;
    // One program for each: the kernel asks all of them.
    for device in std::iter::once(&found.device).chain(&found.related) {
        let metadata = fs::metadata(device).map_err(GuestError::file("look at", device))?;
        let number = metadata.rdev();
        let kind = if metadata.file_type().is_char_device() {
            CHARACTER_DEVICE
        } else {
            BLOCK_DEVICE
        };
        let program = bpf::load(
            Kind::ControlGroupDevice,
            PROGRAM,
            &instructions(kind, major(number), minor(number)),
        );
        program
            .and_then(|program| bpf::attach_to_control_group(program.as_fd(), directory.as_fd()))
            .map_err(GuestError::file("keep containers from", device))?;
    }
    Ok(())
}

fn instructions(kind: i32, major: u32, minor: u32) -> [Instruction; 11] {
    [
        /*  0 */ load(R2, R1, ACCESS_AND_TYPE),
        /*  1 */ and(R2, TYPE),
        /*  2 */ jump_unless(R2, kind, ALLOW - 3),
        /*  3 */ load(R2, R1, MAJOR),
        /*  4 */ jump_unless(R2, major.cast_signed(), ALLOW - 5),
        /*  5 */ load(R2, R1, MINOR),
        /*  6 */ jump_unless(R2, minor.cast_signed(), ALLOW - 7),
        /*  7 */ set(R0, REFUSED),
        /*  8 */ exit(),
        /*  9 */ set(R0, ALLOWED),
        /* 10 */ exit(),
    ]
}
