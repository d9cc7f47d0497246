//! A large container image, honestly so: files that nothing makes smaller, the same bytes each time.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read},
    path::Path,
};

use peerpods_testkit::Bed;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// What is in every file.
const FILE_BYTES: u64 = 1 << 20;
/// The shell of the image: a program that needs no other file.
const BUSYBOX: &str = "/bin/busybox";
const SHELL: [&str; 4] = ["sh", "sleep", "du", "sha256sum"];

/// An image of `layers` layers with `files` files of 1 MiB each.
pub(crate) struct LargeImage {
    pub(crate) layers: u64,
    pub(crate) files: u64,
}

impl LargeImage {
    /// Where a file is in the image.
    pub(crate) fn path(layer: u64, file: u64) -> String {
        format!("data/{layer}/{file}")
    }

    /// The checksum of a file, as `sha256sum` prints it.
    pub(crate) fn checksum(layer: u64, file: u64) -> String {
        digest(&mut Noise::of(layer, file).take(FILE_BYTES)).unwrap().0
    }

    /// Puts the image into the test bed's registry, and answers the name by which pods pull it.
    pub(crate) fn push(&self, bed: &Bed, name: &str) -> String {
        let folder = TempDir::with_prefix("peerpods-large-image-").unwrap();
        let archive = folder.path().join("image.tar");
        self.write(folder.path(), &archive).unwrap();
        let pushed = std::process::Command::new(bed.program("push-image"))
            .arg(&archive)
            .arg(name)
            .output()
            .unwrap();
        assert!(
            pushed.status.success(),
            "{}",
            String::from_utf8_lossy(&pushed.stderr)
        );
        let printed = String::from_utf8(pushed.stdout).unwrap();
        printed.lines().last().unwrap().to_owned()
    }

    /// Writes an OCI archive. Layers are as they are, not compressed: it would take time and save nothing.
    fn write(&self, folder: &Path, archive: &Path) -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::new(File::create(archive)?));
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layer = folder.join("layer.tar");
        let mut layers = Vec::new();
        for number in 0..=self.layers {
            match number.checked_sub(1) {
                None => write_shell(&layer)?,
                Some(number) => self.write_layer(&layer, number)?,
            }
            let (hash, size) = digest(&mut File::open(&layer)?)?;
            let path = format!("blobs/sha256/{hash}");
            archive.append_data(
                &mut header(EntryType::Regular, 0o644, size),
                path,
                File::open(&layer)?,
            )?;
            layers.push(descriptor("layer.v1.tar", &hash, size));
        }
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = append_blob(&mut archive, "config.v1+json", &config)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let manifest = append_blob(&mut archive, "manifest.v1+json", &manifest)?;
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        append(&mut archive, "index.json", index.to_string().as_bytes())?;
        archive.into_inner()?.into_inner()?.sync_data()
    }

    fn write_layer(&self, path: &Path, layer: u64) -> io::Result<()> {
        let mut archive = Builder::new(BufWriter::new(File::create(path)?));
        for file in 0..self.files {
            let mut header = header(EntryType::Regular, 0o644, FILE_BYTES);
            let content = Noise::of(layer, file).take(FILE_BYTES);
            archive.append_data(&mut header, Self::path(layer, file), content)?;
        }
        archive.into_inner()?.into_inner().map(drop).map_err(Into::into)
    }
}

fn write_shell(path: &Path) -> io::Result<()> {
    let mut archive = Builder::new(File::create(path)?);
    let program = fs::read(BUSYBOX)?;
    let mut busybox = header(EntryType::Regular, 0o755, program.len() as u64);
    archive.append_data(&mut busybox, "bin/busybox", program.as_slice())?;
    for name in SHELL {
        let mut link = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut link, format!("bin/{name}"), "busybox")?;
    }
    archive.into_inner().map(drop)
}

fn append_blob(archive: &mut Builder<BufWriter<File>>, kind: &str, value: &Value) -> io::Result<Value> {
    let text = value.to_string();
    let (hash, size) = digest(&mut text.as_bytes())?;
    append(archive, &format!("blobs/sha256/{hash}"), text.as_bytes())?;
    Ok(descriptor(kind, &hash, size))
}

fn append(archive: &mut Builder<BufWriter<File>>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// Of root, and without a time.
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

fn descriptor(kind: &str, hash: &str, size: u64) -> Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{hash}"), "size": size,
    })
}

/// The SHA-256 of what there is to read, and its length.
fn digest(content: &mut dyn Read) -> io::Result<(String, u64)> {
    let (mut context, mut size, mut buffer) = (Context::new(&SHA256), 0, vec![0; 1 << 16]);
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok((hex::encode(context.finish()), size)),
            length => {
                context.update(&buffer[..length]);
                size += length as u64;
            }
        }
    }
}

/// Bytes without a pattern: the states of a xorshift generator, which never repeats itself within a file.
struct Noise(u64);

impl Noise {
    fn of(layer: u64, file: u64) -> Self {
        // Any multiplier that spreads small numbers over all bits; the state must not be zero.
        Self(
            (layer << 32 | file)
                .wrapping_add(1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                | 1,
        )
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let whole = buffer.len() / 8 * 8;
        for word in buffer[..whole].chunks_exact_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_le_bytes());
        }
        Ok(whole)
    }
}
