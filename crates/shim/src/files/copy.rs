//! Copies files of the node into the guest, through the agent.

use std::{
    fs::{self, File, Metadata},
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use peerpods_proto::agent::CopyFileRequest;

use crate::{agent::Agent, error::Error, mounts::Copy};

/// One message of the agent protocol holds up to 4 MiB; small pieces keep this process small.
const CHUNK: usize = 256 << 10;
/// Mode of directories that have to be made on the way to a file.
const PARENT_MODE: u32 = 0o750;
/// A mount larger than this is data, not configuration, and would have to be a volume.
const MAX_BYTES: u64 = 256 << 20;
/// As above, for the number of files.
const MAX_ENTRIES: u32 = 10_000;
/// Deeper nesting than that is a loop, or a mistake.
const MAX_DEPTH: u32 = 64;

/// Sends one mount's source, whole.
pub(super) async fn send(agent: &Agent, copy: &Copy) -> Result<(), Error> {
    let mut sending = Sending {
        agent,
        copy,
        bytes: 0,
        entries: 0,
    };
    // The source itself may be a symbolic link, which the runtime would have followed.
    let source = fs::canonicalize(&copy.source).map_err(Error::file("find", &copy.source))?;
    sending.entry(&source, copy.target.clone(), 0).await
}

struct Sending<'a> {
    agent: &'a Agent,
    copy: &'a Copy,
    bytes: u64,
    entries: u32,
}

impl Sending<'_> {
    async fn entry(&mut self, source: &Path, target: String, depth: u32) -> Result<(), Error> {
        let metadata = fs::symlink_metadata(source).map_err(Error::file("inspect", source))?;
        self.entries += 1;
        self.bytes += metadata.len();
        if self.entries > MAX_ENTRIES || self.bytes > MAX_BYTES || depth > MAX_DEPTH {
            let problem = format!(
                "too large to be copied into the virtual machine (more than {MAX_ENTRIES} files, \
                 {} MiB or {MAX_DEPTH} levels)",
                MAX_BYTES >> 20
            );
            return Err(Error::Mount {
                destination: self.copy.source.display().to_string(),
                problem,
            });
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.agent.copy_file(&request(&metadata, &target)).await?;
            self.children(source, &target, depth).await
        } else if kind.is_symlink() {
            let link = fs::read_link(source).map_err(Error::file("read the link", source))?;
            let data = link.as_os_str().as_bytes().to_vec();
            let size = i64::try_from(data.len()).unwrap_or(0);
            let request = CopyFileRequest {
                data,
                file_size: size,
                ..request(&metadata, &target)
            };
            self.agent.copy_file(&request).await
        } else if kind.is_file() {
            self.file(source, &metadata, &target).await
        } else {
            tracing::debug!(path = %source.display(), "not copied: neither file, directory nor link");
            Ok(())
        }
    }

    async fn children(&mut self, source: &Path, target: &str, depth: u32) -> Result<(), Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(source).map_err(Error::file("list", source))? {
            names.push(entry.map_err(Error::file("list", source))?.file_name());
        }
        // Kubelet's volumes point from `name` to `..data/name` and from there to a directory with the time
        // in its name. In sorted order each target arrives before the links that users look at.
        names.sort();
        for name in names {
            let Some(text) = name.to_str() else {
                let destination = source.join(&name).display().to_string();
                return Err(Error::Mount {
                    destination,
                    problem: "its name is not UTF-8".into(),
                });
            };
            Box::pin(self.entry(&source.join(&name), format!("{target}/{text}"), depth + 1)).await?;
        }
        Ok(())
    }

    async fn file(&mut self, source: &Path, metadata: &Metadata, target: &str) -> Result<(), Error> {
        let mut file = File::open(source).map_err(Error::file("open", source))?;
        let size = i64::try_from(metadata.len()).unwrap_or(i64::MAX);
        let mut offset: i64 = 0;
        loop {
            let mut data = Vec::new();
            let rest = u64::try_from(size - offset).unwrap_or(0).min(CHUNK as u64);
            file.by_ref()
                .take(rest)
                .read_to_end(&mut data)
                .map_err(Error::file("read", source))?;
            let read = i64::try_from(data.len()).unwrap_or(0);
            if read == 0 && offset < size {
                let problem = format!("{} became shorter while it was copied", source.display());
                return Err(Error::Mount {
                    destination: self.copy.source.display().to_string(),
                    problem,
                });
            }
            let request = CopyFileRequest {
                file_size: size,
                offset,
                data,
                ..request(metadata, target)
            };
            self.agent.copy_file(&request).await?;
            offset += read;
            if offset >= size {
                return Ok(());
            }
        }
    }
}

fn request(metadata: &Metadata, target: &str) -> CopyFileRequest {
    CopyFileRequest {
        path: target.to_owned(),
        file_mode: metadata.mode(),
        dir_mode: PARENT_MODE,
        // The wire has signed ids; the bits are what counts.
        uid: metadata.uid().cast_signed(),
        gid: metadata.gid().cast_signed(),
        ..Default::default()
    }
}
