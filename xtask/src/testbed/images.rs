//! The container images of the test bed: what holds a pod's namespaces, a shell with its tools, and a workload that does
//! what a shell cannot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{layout, layout::State, programs};
use crate::{
    oci::{self, Item},
    process::{command, output, root, run},
    stamp,
};

/// The sandbox image, as containerd's configuration names it.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// The shell, as the registry names it.
pub(super) const BUSYBOX: &str = "busybox:1.35";
/// The shell, where the node has a password for the private registry.
pub(super) const NODES_BUSYBOX: &str = "node/busybox:1.35";
/// The shell together with the program `testbed/probe`.
pub(super) const PROBE: &str = "probe:1";
/// Of the package `busybox-static`: it runs in an image that holds nothing else.
const BUSYBOX_PROGRAM: &str = "/bin/busybox";

/// The archives.
pub(super) struct Images {
    pub(super) pause: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) probe: PathBuf,
}

/// Writes the archives, unless they are there and nothing changed.
pub(super) fn prepare() -> Result<Images> {
    let folder = layout::folder().join("images");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let images = Images {
        pause: folder.join("pause.tar"),
        busybox: folder.join("busybox.tar"),
        probe: folder.join("probe.tar"),
    };
    let source = root().join("testbed/pause.rs");
    let probe_source = root().join("testbed/probe/main.go");
    let inputs = stamp::of(&[
        Path::new(BUSYBOX_PROGRAM),
        &source,
        &probe_source,
        &std::env::current_exe()?,
    ])?;
    stamp::make(&folder.join("inputs"), &inputs, || {
        pause(&images.pause, &source)?;
        busybox(&images.busybox)?;
        probe(&images.probe)
    })?;
    Ok(images)
}

/// Puts an archive into the bed's registry; runs in the bed.
pub(super) fn push(state: &State, archive: &Path, name: &str) -> Result<()> {
    output(
        Command::new("sh")
            .arg(state.file("config/push.sh"))
            .arg(archive)
            .arg(name),
    )
    .map(drop)
}

fn pause(archive: &Path, source: &Path) -> Result<()> {
    let program = archive.with_extension("program");
    let (source, program_text) = (source.to_string_lossy(), program.to_string_lossy());
    let options = [
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
    ];
    let edition = ["--edition", "2024", "-o", &program_text, &source];
    run(&mut command("rustc", &[&options[..], &edition[..]].concat()))?;
    let content = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let config = json!({"Entrypoint": ["/pause"], "User": "65535:65535"});
    oci::write(
        archive,
        PAUSE,
        &config,
        &[Item::File("pause".to_owned(), 0o755, content)],
    )
    .map(drop)
}

fn probe(archive: &Path) -> Result<()> {
    let program = archive.with_extension("program");
    programs::build(&program, programs::FLAGS, "", &["./probe"])?;
    let content = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut items = shell()?;
    items.push(Item::File("probe".to_owned(), 0o755, content));
    write_shell(archive, PROBE, &items)
}

fn busybox(archive: &Path) -> Result<()> {
    write_shell(archive, BUSYBOX, &shell()?)
}

fn write_shell(archive: &Path, name: &str, items: &[Item]) -> Result<()> {
    let config = json!({"Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"], "Cmd": ["sh"]});
    oci::write(archive, &format!("localhost/{name}"), &config, items).map(drop)
}

/// A root file system with busybox.
fn shell() -> Result<Vec<Item>> {
    let content = fs::read(BUSYBOX_PROGRAM)
        .with_context(|| format!("cannot read {BUSYBOX_PROGRAM}; it is of the package busybox-static"))?;
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    let mut items = vec![
        Item::Folder("bin", 0o755),
        Item::Folder("dev", 0o755),
        Item::Folder("etc", 0o755),
        Item::Folder("proc", 0o755),
        Item::Folder("root", 0o700),
        Item::Folder("sys", 0o755),
        Item::Folder("tmp", 0o1777),
        Item::File("bin/busybox".to_owned(), 0o755, content),
        Item::File("etc/passwd".to_owned(), 0o644, users.into()),
        Item::File(
            "etc/group".to_owned(),
            0o644,
            "root:x:0:\nnogroup:x:65534:\n".into(),
        ),
    ];
    let applets = output(&mut command(BUSYBOX_PROGRAM, &["--list"]))?;
    let applets = applets.lines().filter(|name| *name != "busybox");
    items.extend(applets.map(|name| Item::Link(format!("bin/{name}"), "busybox")));
    Ok(items)
}
