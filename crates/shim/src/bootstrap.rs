//! `start`: brings up the shim of a pod, or points to the one that is there.
//!
//! The shim of a pod is known by its socket, whose name is a hash of the runtime's address, its namespace
//! and the sandbox's id; every container of the pod computes the same name. The daemon is this program
//! again, with the bound socket as its standard input, so that no moment exists at which the socket can be
//! seen but not be connected to.

use std::{
    env,
    fs::{self, Permissions},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use containerd_shim_protos::bootstrap_api::BootstrapParams;
use protobuf::Message;
use sha2::{Digest, Sha256};

use crate::{
    annotations::{Annotations, ContainerKind},
    command_line::CommandLine,
    error::Error,
    spec,
};

/// Where sockets go unless the runtime names another directory. The path must be short: with the 64
/// characters of the hash it has to fit into the 108 of a socket address.
const SOCKET_DIRECTORY: &str = "/run/containerd/s";
/// The bundle's file that holds the address, for runtimes that look a running shim up there.
const ADDRESS_FILE: &str = "address";
/// The bundle's file that says which process the shim is.
const PID_FILE: &str = "shim.pid";
/// The bundle's fifo from which the runtime reads the shim's log.
const LOG_FIFO: &str = "log";
/// More than any runtime sends; what is longer is not a bootstrap message.
const MAX_PARAMETERS: u64 = 1 << 20;
/// The newest task API that this shim serves.
const TASK_API: i32 = 3;

/// What the runtime said on standard input, in whichever way it speaks.
#[derive(Debug, PartialEq)]
enum Runtime {
    /// containerd 2.3 or later: bootstrap parameters in, structured result out.
    Bootstrap { socket_directory: Option<PathBuf> },
    /// Earlier ones, and CRI-O: the address as plain text, the task API of version 2.
    Plain,
}

impl Runtime {
    /// Earlier runtimes send a `google.protobuf.Any` (or nothing), which has the same wire shape; but only
    /// bootstrap parameters begin with the id of this very instance.
    fn recognise(input: &[u8], id: &str) -> Self {
        match BootstrapParams::parse_from_bytes(input) {
            Ok(parameters) if parameters.instance_id == id => {
                let directory = parameters.socket_dir.filter(|directory| !directory.is_empty());
                Self::Bootstrap {
                    socket_directory: directory.map(PathBuf::from),
                }
            }
            Ok(_) | Err(_) => Self::Plain,
        }
    }

    fn socket_directory(&self) -> &Path {
        match self {
            Self::Bootstrap {
                socket_directory: Some(directory),
            } => directory,
            Self::Bootstrap {
                socket_directory: None,
            }
            | Self::Plain => Path::new(SOCKET_DIRECTORY),
        }
    }

    fn answer(&self, address: &str) -> String {
        match self {
            // JSON is understood by every containerd that sends bootstrap parameters.
            Self::Bootstrap { .. } => {
                serde_json::json!({"version": TASK_API, "address": address, "protocol": "ttrpc"}).to_string()
            }
            Self::Plain => address.to_owned(),
        }
    }
}

/// Answers with the address of the pod's shim, starting it if this is the pod's first container.
pub(crate) fn start(command: &CommandLine) -> Result<(), Error> {
    let bundle = bundle(command)?;
    let runtime = Runtime::recognise(&read_parameters()?, &command.id);
    let spec = spec::load(&bundle)?;
    let kind = Annotations(&spec.Annotations).kind()?;
    let sandbox = match &kind {
        ContainerKind::InSandbox(sandbox) => sandbox,
        ContainerKind::Sandbox | ContainerKind::Single => &command.id,
    };
    let socket = socket_path(runtime.socket_directory(), command, sandbox);
    let address = format!("unix://{}", socket.display());
    match kind {
        ContainerKind::InSandbox(_) => {
            UnixStream::connect(&socket).map_err(Error::file("reach the pod's shim at", &socket))?;
        }
        ContainerKind::Sandbox | ContainerKind::Single => {
            let listener = bind(&socket)?;
            spawn(command, &bundle, listener).inspect_err(|_| drop(fs::remove_file(&socket)))?;
        }
    }
    let file = bundle.join(ADDRESS_FILE);
    fs::write(&file, &address).map_err(Error::file("write", &file))?;
    let mut output = io::stdout().lock();
    let written = output
        .write_all(runtime.answer(&address).as_bytes())
        .and_then(|()| output.flush());
    written.map_err(|source| Error::System {
        action: "answer the container runtime",
        source,
    })
}

/// The bundle directory: named, or the working directory.
pub(crate) fn bundle(command: &CommandLine) -> Result<PathBuf, Error> {
    match &command.bundle {
        Some(bundle) => Ok(bundle.clone()),
        None => env::current_dir().map_err(|source| Error::System {
            action: "find the bundle",
            source,
        }),
    }
}

/// The socket that a bundle's `address` file names.
pub(crate) fn recorded_socket(bundle: &Path) -> Option<PathBuf> {
    let address = fs::read_to_string(bundle.join(ADDRESS_FILE)).ok()?;
    address.trim().strip_prefix("unix://").map(PathBuf::from)
}

fn read_parameters() -> Result<Vec<u8>, Error> {
    let mut parameters = Vec::new();
    // A person who tries the program by hand has nothing to type.
    if !io::stdin().is_terminal() {
        let read = io::stdin()
            .lock()
            .take(MAX_PARAMETERS)
            .read_to_end(&mut parameters);
        read.map_err(|source| Error::System {
            action: "read the start parameters",
            source,
        })?;
    }
    Ok(parameters)
}

fn socket_path(directory: &Path, command: &CommandLine, sandbox: &str) -> PathBuf {
    let name = format!("{}/{}/{sandbox}", command.address, command.namespace);
    directory.join(hex::encode(Sha256::digest(name.as_bytes())))
}

/// Listens at a socket that is root's alone: who can connect to it runs what he likes in the pod.
fn bind(socket: &Path) -> Result<UnixListener, Error> {
    let listener = bind_anew(socket)?;
    let private = fs::set_permissions(socket, Permissions::from_mode(0o600));
    private.map_err(Error::file("protect", socket))?;
    Ok(listener)
}

fn bind_anew(socket: &Path) -> Result<UnixListener, Error> {
    if let Some(directory) = socket.parent() {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(directory);
        made.map_err(Error::file("create", directory))?;
    }
    match UnixListener::bind(socket) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Someone answers: that is the pod's shim, and a second one would take its place.
            if UnixStream::connect(socket).is_ok() {
                let id = socket.display().to_string();
                return Err(Error::AlreadyExists {
                    what: "a shim at",
                    id,
                });
            }
            fs::remove_file(socket).map_err(Error::file("remove the stale", socket))?;
            UnixListener::bind(socket).map_err(Error::file("listen at", socket))
        }
        result => result.map_err(Error::file("listen at", socket)),
    }
}

fn spawn(command: &CommandLine, bundle: &Path, listener: UnixListener) -> Result<(), Error> {
    let executable = env::current_exe();
    let executable = executable.map_err(|source| Error::System {
        action: "find this program",
        source,
    })?;
    let log = open_log(bundle)?;
    let log_too = log
        .try_clone()
        .map_err(Error::file("duplicate", bundle.join(LOG_FIFO)))?;
    let mut daemon = Command::new(executable);
    daemon
        .args([
            "-namespace",
            &command.namespace,
            "-id",
            &command.id,
            "-address",
            &command.address,
        ])
        .current_dir(bundle)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log)
        .stderr(log_too);
    if command.debug {
        daemon.arg("-debug");
    }
    // Nobody waits for the daemon: this process ends, and its parent or init inherits it.
    let started = daemon.spawn().map_err(|source| Error::System {
        action: "start the shim's daemon",
        source,
    })?;
    // Written before the runtime is answered, so that who looks for it finds it.
    let file = bundle.join(PID_FILE);
    fs::write(&file, started.id().to_string()).map_err(Error::file("write", file))
}

/// The runtime's log, opened so that neither a missing nor a slow reader ever stops the shim: held open
/// in both directions there is no broken pipe, and a full pipe loses lines instead of blocking.
fn open_log(bundle: &Path) -> Result<fs::File, Error> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(nonblocking);
    let fifo = bundle.join(LOG_FIFO);
    match options.open(&fifo) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => options
            .open("/dev/null")
            .map_err(Error::file("open", "/dev/null")),
        result => result.map_err(Error::file("open", fifo)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str) -> CommandLine {
        let arguments = [
            "-namespace",
            "k8s.io",
            "-address",
            "/run/c.sock",
            "-id",
            id,
            "start",
        ];
        CommandLine::parse(arguments.map(str::to_owned)).unwrap()
    }

    #[test]
    fn only_bootstrap_parameters_for_this_instance_get_a_structured_answer() {
        let parameters = BootstrapParams {
            instance_id: "abc".into(),
            ..Default::default()
        };
        let bytes = parameters.write_to_bytes().unwrap();
        let runtime = Runtime::recognise(&bytes, "abc");
        assert_eq!(
            runtime,
            Runtime::Bootstrap {
                socket_directory: None
            }
        );
        assert!(runtime.answer("unix:///s").contains("\"version\":3"));
        assert_eq!(Runtime::recognise(&bytes, "other"), Runtime::Plain);
        assert_eq!(Runtime::recognise(b"", "abc").answer("unix:///s"), "unix:///s");
    }

    #[test]
    fn every_container_of_a_pod_computes_the_same_socket() {
        let directory = Path::new("/run/s");
        let sandbox = socket_path(directory, &command("pod"), "pod");
        assert_eq!(sandbox, socket_path(directory, &command("container"), "pod"));
        assert_ne!(sandbox, socket_path(directory, &command("pod"), "container"));
        assert!(
            socket_path(Path::new(SOCKET_DIRECTORY), &command("pod"), "pod")
                .as_os_str()
                .len()
                < 108
        );
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        drop(UnixListener::bind(&socket).unwrap());
        let _living = bind(&socket).unwrap();
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(bind(&socket), Err(Error::AlreadyExists { .. })));
    }
}
