//! What the sandbox needs to know about names: the lines of the pod's resolv.conf.

use std::{fs::File, io::Read};

use peerpods_proto::oci::Spec;

use crate::error::Error;

const DESTINATION: &str = "/etc/resolv.conf";
/// The resolver itself reads no longer file than this with any use.
const MAX_SIZE: u64 = 64 * 1024;

/// The lines of the file that the runtime mounts as the sandbox's resolv.conf.
pub(crate) fn lines(spec: &Spec) -> Result<Vec<String>, Error> {
    let mount = spec.Mounts.iter().find(|mount| mount.destination == DESTINATION);
    let Some(source) = mount
        .map(|mount| &mount.source)
        .filter(|source| !source.is_empty())
    else {
        return Ok(Vec::new());
    };
    let mut text = String::new();
    let read = File::open(source).and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text));
    read.map_err(Error::file("read", source))?;
    Ok(text.lines().map(str::to_owned).collect())
}
