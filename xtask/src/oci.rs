//! Container images out of a few files, written as OCI archives: the same bytes from the same files.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What an image holds.
pub(crate) enum Item {
    /// A folder and its mode.
    Folder(&'static str, u32),
    /// A file, its mode and content.
    File(String, u32, Vec<u8>),
    /// A symbolic link and its target.
    Link(String, &'static str),
}

/// Writes an image of one layer to `path`, under the name `name`, with `config` as its defaults; gives its digest.
pub(crate) fn write(path: &Path, name: &str, config: &Value, items: &[Item]) -> Result<String> {
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
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(digest(&manifest))
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

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, path::PathBuf};

    use serde_json::{Value, json};
    use tar::Archive;

    use super::{Item, digest, write};

    /// A file that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("peerpods-oci-{}-{name}.tar", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        /// A file of the archive.
        fn file(&self, path: &str) -> Vec<u8> {
            let mut archive = Archive::new(fs::File::open(&self.0).unwrap());
            let mut entries = archive.entries().unwrap().map(Result::unwrap);
            let mut entry = entries
                .find(|entry| entry.path().unwrap().to_str() == Some(path))
                .unwrap_or_else(|| panic!("{path} is not there"));
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            content
        }

        fn blob(&self, descriptor: &Value) -> Vec<u8> {
            let named = descriptor["digest"].as_str().unwrap();
            let content = self.file(&format!("blobs/{}", named.replace(':', "/")));
            assert_eq!(digest(&content), named);
            content
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn items() -> [Item; 3] {
        [
            Item::Folder("usr", 0o755),
            Item::File("usr/program".to_owned(), 0o755, b"program".to_vec()),
            Item::Link("bin".to_owned(), "usr"),
        ]
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let (first, second) = (Scratch::new("first"), Scratch::new("second"));
        let config = json!({"User": "1:1"});
        let digests = [&first, &second].map(|path| write(&path.0, "name:1", &config, &items()).unwrap());
        assert_eq!(digests[0], digests[1]);
        assert_eq!(fs::read(&first.0).unwrap(), fs::read(&second.0).unwrap());
    }

    #[test]
    fn an_archive_holds_what_its_descriptors_say() {
        let archive = Scratch::new("whole");
        let named = write(&archive.0, "name:1", &json!({"User": "1:1"}), &items()).unwrap();
        let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parsed(&archive.file("index.json"));
        assert_eq!(index["manifests"][0]["digest"], json!(named));
        let manifest = parsed(&archive.blob(&index["manifests"][0]));
        let config = parsed(&archive.blob(&manifest["config"]));
        assert_eq!(config["config"]["User"], "1:1");
        let packed = archive.blob(&manifest["layers"][0]);
        let mut layer = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], json!(digest(&layer)));
        let mut names = Archive::new(&layer[..]);
        let names: Vec<_> = names
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["usr/", "usr/program", "bin"]);
    }
}
