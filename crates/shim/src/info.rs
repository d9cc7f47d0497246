//! `-info`: tells containerd 2 what this runtime is.

use std::io::Write;

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::Message;

use crate::error::Error;

/// Prints a serialized `RuntimeInfo`.
pub(crate) fn print() -> Result<(), Error> {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let info = RuntimeInfo {
        name: "io.containerd.kata.v2".to_owned(),
        version: Some(version).into(),
        ..Default::default()
    };
    print_message(&info)
}

/// Writes a message to standard output, which is how short-lived runs answer containerd.
pub(crate) fn print_message(message: &impl Message) -> Result<(), Error> {
    let bytes = message.write_to_bytes().map_err(|error| Error::Invalid {
        field: "answer",
        problem: error.to_string(),
    })?;
    let mut output = std::io::stdout().lock();
    let written = output.write_all(&bytes).and_then(|()| output.flush());
    written.map_err(|source| Error::System {
        action: "answer the container runtime",
        source,
    })
}
