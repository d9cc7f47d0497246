//! `make images`: the container images of our programs, as OCI archives.
//!
//! Each holds one static program and what that needs at run time, and no distribution: no shell, no package, no library.
//! They are written without a container runtime, and the same programs give the same bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    oci::{self, Item},
    process::root,
    stamp,
    testbed::{Product, Profile, product},
};

/// Nobody in particular, who is in no image's list of users: there is none.
const NOBODY: &str = "65532:65532";
/// Who makes network devices, or changes the node.
const ROOT: &str = "0:0";
/// Where TLS libraries look for the system's authorities.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// The version of all programs: that of the workspace.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One image.
struct Definition {
    /// Its name, and the last part of its name in a registry.
    name: &'static str,
    /// One line for people who look at its labels.
    description: &'static str,
    /// What it starts, in /usr/bin.
    program: &'static str,
    user: &'static str,
    /// What else there is.
    beside: Beside,
}

/// What a program needs beside itself.
enum Beside {
    Nothing,
    /// Another program, in /usr/bin.
    Program(&'static str),
    /// The authorities that clouds' certificates are of.
    Authorities,
    /// What is published to EC2: the VM's disk, packed, and what it was made of, in /usr/share/peerpods; and these authorities.
    Disk,
    /// What providers need: these authorities, and the VM image of the provider `qemu`, in
    /// /usr/share/peerpods; QEMU itself is the node's.
    Providers,
}

const DEFINITIONS: [Definition; 5] = [
    Definition {
        name: "peerpods-operator",
        description: "From one KataConfig to nodes that run, and count, peer pods",
        program: "peerpods-operator",
        user: NOBODY,
        beside: Beside::Authorities,
    },
    Definition {
        name: "peerpods-webhook",
        description: "Changes peer pods as they are created",
        program: "peerpods-webhook",
        user: NOBODY,
        beside: Beside::Nothing,
    },
    Definition {
        name: "cloud-api-adaptor",
        description: "The node daemon of peer pods: launches their virtual machines",
        program: "cloud-api-adaptor",
        user: ROOT,
        beside: Beside::Providers,
    },
    Definition {
        name: "peerpods-node-runtime",
        description: "Installs the runtime of peer pods on a node",
        program: "peerpods-operator",
        user: ROOT,
        beside: Beside::Program("containerd-shim-kata-v2"),
    },
    Definition {
        name: "peerpods-vm-image",
        description: "Publishes the image of peer pods' virtual machines to EC2",
        program: "peerpodctl",
        user: NOBODY,
        beside: Beside::Disk,
    },
];

/// An image on disk.
pub(crate) struct Image {
    /// Its name.
    pub(crate) name: &'static str,
    /// The OCI archive.
    pub(crate) archive: PathBuf,
    /// By which a registry knows it.
    pub(crate) digest: String,
}

/// Builds everything as it is shipped, and writes the archives.
pub(crate) fn images() -> Result<()> {
    let folder = root().join("target/images");
    let product = product(Profile::Release, &folder.join("vm"))?;
    for image in write(&product, &folder)? {
        println!("{} {}@{}", image.archive.display(), image.name, image.digest);
    }
    Ok(())
}

/// Writes the archives of all images into `folder`, unless they are there and nothing changed.
pub(crate) fn write(product: &Product, folder: &Path) -> Result<Vec<Image>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    DEFINITIONS
        .iter()
        .map(|definition| write_one(definition, product, folder))
        .collect()
}

fn write_one(definition: &Definition, product: &Product, folder: &Path) -> Result<Image> {
    let archive = folder.join(format!("{}.tar", definition.name));
    let noted = archive.with_extension("digest");
    let mut files = files(definition, product);
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let inputs: Vec<&Path> = files.iter().map(|(_, _, source)| source.as_path()).collect();
    let inputs = stamp::of(&[&inputs[..], &[&own]].concat())?;
    stamp::make(&archive.with_extension("inputs"), &inputs, || {
        let mut items = folders(&definition.beside);
        for (name, mode, source) in files.drain(..) {
            let content = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
            items.push(Item::File(name, mode, content));
        }
        let name = format!("{}:{VERSION}", definition.name);
        let digest = oci::write(&archive, &name, &config(definition), &items)?;
        fs::write(&noted, digest).with_context(|| format!("cannot write {}", noted.display()))
    })?;
    let digest = fs::read_to_string(&noted).with_context(|| format!("cannot read {}", noted.display()))?;
    Ok(Image {
        name: definition.name,
        archive,
        digest,
    })
}

fn config(definition: &Definition) -> serde_json::Value {
    json!({
        "User": definition.user,
        "Entrypoint": [format!("/usr/bin/{}", definition.program)],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Labels": {
            "org.opencontainers.image.title": definition.name,
            "org.opencontainers.image.description": definition.description,
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        },
    })
}

/// Name in the image, mode and source of every file.
fn files(definition: &Definition, product: &Product) -> Vec<(String, u32, PathBuf)> {
    let program = |name: &str| (format!("usr/bin/{name}"), 0o755, product.programs.join(name));
    let shared = |name: &str, source: &Path| (format!("usr/share/peerpods/{name}"), 0o644, source.to_owned());
    let mut files = vec![program(definition.program)];
    match definition.beside {
        Beside::Nothing | Beside::Authorities => {}
        Beside::Program(name) => files.push(program(name)),
        Beside::Disk => files.extend([
            shared("disk.raw.gz", &product.packed_disk),
            shared("manifest.json", &product.manifest),
        ]),
        Beside::Providers => files.extend([
            shared("vmlinuz", &product.kernel),
            shared("initrd.img", &product.initrd),
        ]),
    }
    files
}

/// Mozilla's authorities, as the guest has them for its registries.
fn authorities() -> String {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|root| pem::Pem::new("CERTIFICATE", root.as_ref()));
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&certificates.collect::<Vec<_>>(), lines)
}

/// All folders, with what is not of this build in them.
fn folders(beside: &Beside) -> Vec<Item> {
    let mut folders = vec![
        Item::Folder("usr", 0o755),
        Item::Folder("usr/bin", 0o755),
        Item::Folder("run", 0o755),
        Item::Folder("var", 0o755),
        // Container runtimes name network namespaces by the old path, and Kubernetes mounts tokens there.
        Item::Link("var/run".to_owned(), "../run"),
        Item::Folder("tmp", 0o1777),
    ];
    if let Beside::Providers | Beside::Disk = beside {
        folders.push(Item::Folder("usr/share", 0o755));
        folders.push(Item::Folder("usr/share/peerpods", 0o755));
    }
    if let Beside::Providers | Beside::Disk | Beside::Authorities = beside {
        folders.extend(["etc", "etc/ssl", "etc/ssl/certs"].map(|name| Item::Folder(name, 0o755)));
        folders.push(Item::File(
            AUTHORITIES.to_owned(),
            0o644,
            authorities().into_bytes(),
        ));
    }
    folders
}
