//! Network namespaces: entered by short-lived threads, made as files.

use std::{fs, io, path::Path, thread};

use rustix::{
    mount,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::os::fd::AsFd;

use super::{NetworkError, unsafe_namespace};

/// Runs `work` on a thread of its own that has entered the namespace; the thread ends with it, so no other is affected.
///
/// # Errors
/// [`NetworkError::Namespace`].
pub fn run_inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetworkError> {
    let failed = |source| NetworkError::Namespace {
        path: path.to_owned(),
        source,
    };
    let namespace = fs::File::open(path).map_err(failed)?;
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)
                .map(|()| work())
        });
        let joined = inside.map_err(failed)?.join();
        joined
            .map_err(|_| failed(io::Error::other("the thread inside has panicked")))?
            .map_err(failed)
    })
}

/// Makes a network namespace that lives as the file `path`, with its loopback down; one that is there already is kept.
///
/// # Errors
/// [`NetworkError::MakeNamespace`].
pub fn create_namespace(path: &Path) -> Result<(), NetworkError> {
    let failed = |source: io::Error| NetworkError::MakeNamespace {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    thread::scope(|scope| {
        let maker = thread::Builder::new().spawn_scoped(scope, || -> io::Result<()> {
            unsafe_namespace::leave_network_namespace()?;
            mount::mount_bind("/proc/thread-self/ns/net", path)?;
            Ok(())
        });
        let joined = maker.map_err(failed)?.join();
        joined
            .map_err(|_| failed(io::Error::other("the thread inside has panicked")))?
            .map_err(failed)
    })
}
