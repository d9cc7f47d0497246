//! `connect.json`: all that a shim needs to dial its VM itself.

use std::{fs, io, io::Write, net::SocketAddr, os::unix::fs::OpenOptionsExt, path::Path};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ChannelError, ServerKeyPin};

/// The file's name in the pod directory.
pub const CONNECTION_FILE: &str = "connect.json";

/// Far above what two PEM texts take; a longer file is not ours.
const FILE_LIMIT: u64 = 64 * 1024;

/// Where the agent is, who it is, and who its client is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Connection {
    /// The agent's address in the VM.
    pub address: SocketAddr,
    /// The key that the VM proved at the join.
    pub server_key: ServerKeyPin,
    /// The client's certificate, PEM.
    pub client_certificate_pem: String,
    /// The client's private key, PEM.
    pub client_key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("address", &self.address)
            .field("server_key", &self.server_key)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Writes the file, readable by its owner only; a reader sees all of it or nothing.
    ///
    /// # Errors
    /// [`ChannelError::File`].
    pub fn write(&self, path: &Path) -> Result<(), ChannelError> {
        let failed = |source| ChannelError::File {
            action: "write",
            path: path.to_owned(),
            source,
        };
        let json = Zeroizing::new(serde_json::to_vec(self).expect("a connection is plain data"));
        let partial = path.with_extension("partial");
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .map_err(failed)?;
        file.write_all(&json).map_err(failed)?;
        fs::rename(&partial, path).map_err(failed)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`ChannelError::File`]: it is not there, or not what [`Connection::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, ChannelError> {
        let failed = |source| ChannelError::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(failed)?;
        let mut json = Zeroizing::new(Vec::new());
        io::Read::read_to_end(&mut io::Read::take(file, FILE_LIMIT), &mut json).map_err(failed)?;
        serde_json::from_slice(&json).map_err(|error| failed(error.into()))
    }
}
