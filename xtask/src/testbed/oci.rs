//! Container images out of a few files, written as OCI archives.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What an image holds.
pub(super) enum Item {
    /// A folder and its mode.
    Folder(&'static str, u32),
    /// A file, its mode and content.
    File(&'static str, u32, Vec<u8>),
    /// A symbolic link and its target.
    Link(String, &'static str),
}

/// Writes an image of one layer to `path`, under the name `name`, with `config` as its defaults.
pub(super) fn write(path: &Path, name: &str, config: &Value, items: &[Item]) -> Result<()> {
    let layer = layer(items).context("cannot write the image's layer")?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&layer)?;
    let packed = encoder.finish()?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    }))?;
    let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    listed["platform"] = json!({"architecture": architecture(), "os": "linux"});
    listed["annotations"] = json!({"io.containerd.image.name": name});
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed],
    }))?;

    let mut archive = Builder::new(Vec::new());
    append(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&config, &manifest, &packed] {
        append(&mut archive, &format!("blobs/sha256/{}", hash(blob)), 0o644, blob)?;
    }
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, archive.into_inner()?)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn layer(items: &[Item]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for item in items {
        match item {
            Item::Folder(name, mode) => {
                let mut header = header(EntryType::Directory, *mode, 0);
                layer.append_data(&mut header, format!("{name}/"), &[][..])?;
            }
            Item::File(name, mode, content) => append(&mut layer, name, *mode, content)?,
            Item::Link(name, target) => {
                layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, target)?;
            }
        }
    }
    Ok(layer.into_inner()?)
}

fn append(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len() as u64);
    Ok(archive.append_data(&mut header, name, content)?)
}

/// Of root, and without a time, so that equal content gives equal images.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hash(content))
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// This machine's architecture, as OCI names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
