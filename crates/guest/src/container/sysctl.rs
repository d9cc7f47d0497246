//! Settings of the kernel that belong to the pod's namespaces.

use std::{
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::SandboxNamespaces;
use crate::{boot::POD_NAMESPACE, error::GuestError};

const ROOT: &str = "/proc/sys";

/// Sets them, as seen from inside the pod's network and inter-process communication.
pub(crate) fn apply(
    settings: &HashMap<String, String>,
    shared: &SandboxNamespaces,
) -> Result<(), GuestError> {
    if settings.is_empty() {
        return Ok(());
    }
    // A thread enters the namespaces, and ends.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(Path::new(POD_NAMESPACE), LinkNameSpaceType::Network)?;
            enter(&shared.ipc, LinkNameSpaceType::InterProcessCommunication)?;
            settings.iter().try_for_each(|(name, value)| {
                let path = path(name)?;
                fs::write(&path, value).map_err(GuestError::file("set", path))
            })
        });
        thread.join().expect("writing settings does not panic")
    })
}

fn enter(path: &Path, kind: LinkNameSpaceType) -> Result<(), GuestError> {
    let namespace = fs::File::open(path).map_err(GuestError::file("open", path))?;
    use std::os::fd::AsFd;
    move_into_link_name_space(namespace.as_fd(), Some(kind))
        .map_err(|error| GuestError::file("enter", path)(error.into()))
}

/// The file of a setting: parts are divided by dots, or by slashes where a part has a dot (sysctl.d(5)).
fn path(name: &str) -> Result<PathBuf, GuestError> {
    let divided_by_slashes = name
        .find(['.', '/'])
        .is_some_and(|at| name.as_bytes()[at] == b'/');
    let relative = if divided_by_slashes {
        name.to_owned()
    } else {
        name.chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    };
    let stays = Path::new(&relative)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if relative.is_empty() || !stays {
        return Err(GuestError::Invalid {
            field: "OCI.Linux.Sysctl",
            problem: format!("{name:?} names no setting"),
        });
    }
    Ok(Path::new(ROOT).join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_file_below_proc_sys() {
        for (name, file) in [
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
            ),
        ] {
            assert_eq!(path(name).unwrap(), Path::new(file));
        }
        for wrong in ["", "/etc/passwd", "net/../../etc/passwd", "/"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
