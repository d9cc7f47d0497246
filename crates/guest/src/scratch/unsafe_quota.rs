//! Project quotas, for which there are no safe wrappers.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// `struct fsxattr` of the kernel's `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: Opcode = opcode::read::<Attributes>(b'X', 31);
const FS_IOC_FSSETXATTR: Opcode = opcode::write::<Attributes>(b'X', 32);
/// What is made in a folder with this flag is of the folder's project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `Q_SETQUOTA` for quotas of kind `PRJQUOTA`, as `QCMD` of `include/uapi/linux/quota.h` puts both together.
const SET_PROJECT_QUOTA: libc::c_uint = (0x80_0008 << 8) | 2;
/// Of all that a quota has, only the limits of blocks are told.
const QIF_BLIMITS: u32 = 1;

/// `struct if_dqblk` of `include/uapi/linux/quota.h`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// Makes a folder, and all that is made in it from now on, part of `project`.
pub(super) fn assign(folder: &File, project: u32) -> io::Result<()> {
    // SAFETY: FS_IOC_FSGETXATTR writes one `struct fsxattr`, which `Attributes` has the layout of, to the pointer that
    // `Getter` passes; every pattern of bits is one.
    let mut attributes = unsafe { ioctl(folder.as_fd(), Getter::<FS_IOC_FSGETXATTR, Attributes>::new()) }?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: FS_IOC_FSSETXATTR reads one such structure from the pointer that `Setter` passes, and keeps no reference to
    // it. File systems without projects refuse the request.
    unsafe {
        ioctl(
            folder.as_fd(),
            Setter::<FS_IOC_FSSETXATTR, Attributes>::new(attributes),
        )
    }?;
    Ok(())
}

/// Sets how many KiB the files of `project` may take on the file system that `on` is on.
///
/// Needs CAP_SYS_ADMIN.
pub(super) fn set_limit(on: &File, project: u32, kibibytes: u64) -> io::Result<()> {
    let quota = Quota {
        block_hard_limit: kibibytes,
        block_soft_limit: kibibytes,
        valid: QIF_BLIMITS,
        ..Quota::default()
    };
    // SAFETY: `on` is an open file for as long as the call lasts; Q_SETQUOTA reads one `struct if_dqblk`, which `Quota` has
    // the layout of, from the last argument, and keeps no reference to it.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            on.as_raw_fd(),
            SET_PROJECT_QUOTA,
            project,
            &raw const quota,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, Quota};

    #[test]
    fn structures_and_numbers_are_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Quota>()), (28, 72));
        assert_eq!((FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR), (0x801C_581F, 0x401C_5820));
    }
}
