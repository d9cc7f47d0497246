//! Peer pods in the bed, installed as in any cluster: images from a registry, the chart, a KataConfig.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    ec2,
    images::push,
    layout::{NODE_ADDRESS, PRIVATE_REGISTRY, REGISTRY, State},
    plan::{Plan, Provider},
};
use crate::{
    images::{Image, VERSION},
    process::{output, root, run},
};

/// Where everything of ours is.
pub(crate) const NAMESPACE: &str = "openshift-sandboxed-containers-operator";
/// The release.
const RELEASE: &str = "peerpods";
/// The chart, below the checkout.
pub(crate) const CHART: &str = "deploy/helm/peerpods";
/// An installation takes seconds; a machine busy with something else takes several times that.
const LIMIT: &str = "180s";
/// The operator replaces the adaptor's pod within seconds.
const ADAPTOR_LIMIT: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_millis(50);
/// The adaptor's process, as the kernel cuts its name.
const ADAPTOR: &str = "cloud-api-adapt";
/// Where shims find the adaptor.
const SOCKET: &str = "/run/peerpod/hypervisor.sock";

/// An image of ours: its archive, and the digest by which it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    name: String,
    archive: std::path::PathBuf,
    digest: String,
}

impl From<&Image> for Packed {
    fn from(image: &Image) -> Self {
        Self {
            name: image.name.to_owned(),
            archive: image.archive.clone(),
            digest: image.digest.clone(),
        }
    }
}

impl Packed {
    /// By which the node pulls it.
    fn reference(&self) -> String {
        format!("{REGISTRY}/{}@{}", self.name, self.digest)
    }
}

/// Puts the images that the registry does not have into it.
pub(super) fn push_images(plan: &Plan, state: &State) -> Result<()> {
    let folder = state.file("pushed");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for image in &plan.product {
        let note = folder.join(&image.name);
        if fs::read_to_string(&note).is_ok_and(|digest| digest == image.digest) {
            continue;
        }
        push(state, &image.archive, &format!("{}:{VERSION}", image.name))?;
        fs::write(&note, &image.digest).with_context(|| format!("cannot write {}", note.display()))?;
    }
    Ok(())
}

/// What the bed's administrator writes into `peer-pods-cm`, with what has to be there before: on AWS an image, and credentials.
pub(super) fn settings(plan: &Plan, state: &State) -> Result<Value> {
    let mut settings = match plan.provider {
        Provider::Qemu => qemu_settings(plan),
        Provider::Aws => {
            let secret = state.text("config/cloud-secret.json");
            kubectl(&["apply", "--filename", &secret])?;
            ec2::settings(plan, state)?
        }
    };
    settings["INSECURE_REGISTRIES"] = json!(format!("{REGISTRY},{PRIVATE_REGISTRY}"));
    Ok(settings)
}

/// Installs the chart, or a new version of it.
pub(super) fn install(plan: &Plan, state: &State, settings: &Value) -> Result<()> {
    let file = state.file("config/values.json");
    fs::write(&file, values(plan, settings).to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut helm = Command::new(plan.programs.join("helm"));
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(folder, state.file("helm"));
    }
    helm.args(["upgrade", "--install", RELEASE])
        .arg(root().join(CHART))
        .args(["--namespace", NAMESPACE, "--values"])
        .arg(&file);
    output(&mut helm).map(drop)
}

/// What is peculiar to the bed.
fn values(plan: &Plan, settings: &Value) -> Value {
    let image = |name: &str| {
        let digest = plan
            .product
            .iter()
            .find(|image| image.name == name)
            .map_or("", |image| &image.digest);
        json!({"name": name, "digest": digest})
    };
    json!({
        "images": {
            "registry": REGISTRY,
            "operator": image("peerpods-operator"),
            "webhook": image("peerpods-webhook"),
            "adaptor": image("cloud-api-adaptor"),
            "nodeRuntime": image("peerpods-node-runtime"),
            "vmImage": image("peerpods-vm-image"),
        },
        // The bed has one node.
        "operator": {"replicas": 1},
        "clusterID": "testbed",
        "settings": settings,
    })
}

fn qemu_settings(plan: &Plan) -> Value {
    json!({
        "CLOUD_PROVIDER": "qemu",
        "QEMU_BRIDGE": "knode0",
        "QEMU_ADDRESS_POOL": "10.250.0.100-10.250.0.200",
        "QEMU_GATEWAY": NODE_ADDRESS,
        "QEMU_PREFIX_LENGTH": "24",
        "QEMU_MTU": "9001",
        "QEMU_ACCELERATOR": plan.accelerator,
        // All that the bed does on the machine is below one control group.
        "QEMU_CGROUP": format!("{}/vms", plan.cgroup),
        // The kernel shows these names to the whole machine.
        "QEMU_SCRATCH_DIR": format!("/var/lib/cloud-api-adaptor/scratch-{}", plan.cgroup),
    })
}

/// Waits until everything that the operator makes is there in this version, and pods can be made with these settings.
pub(super) fn wait(plan: &Plan, settings: &Value) -> Result<()> {
    let limit = format!("--timeout={LIMIT}");
    let made = [
        ("deployment/peerpods-operator", "peerpods-operator"),
        ("daemonset/peerpods-node-install", "peerpods-node-runtime"),
        ("daemonset/peerpodconfig-ctrl-caa-daemon", "cloud-api-adaptor"),
        ("deployment/peer-pods-webhook", "peerpods-webhook"),
    ];
    for (object, name) in made {
        let image = plan.product.iter().find(|image| image.name == name);
        let reference = image
            .with_context(|| format!("there is no image {name}"))?
            .reference();
        let is_new = format!("--for=jsonpath={{.spec.template.spec.containers[0].image}}={reference}");
        kubectl(&["wait", "--for=create", object, &limit])?;
        kubectl(&["wait", &is_new, object, &limit])?;
        kubectl(&["rollout", "status", object, &limit])?;
    }
    kubectl(&["wait", "--for=condition=Ready", "kataconfig/cluster", &limit])?;
    wait_adaptor(settings)
}

/// Waits until an adaptor serves that was started with these settings; runs in the bed.
fn wait_adaptor(settings: &Value) -> Result<()> {
    let lines: Vec<String> = settings
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
        .collect();
    let start = Instant::now();
    while !(runs_with(&lines)? && serves()?) {
        ensure!(
            start.elapsed() < ADAPTOR_LIMIT,
            "waited {ADAPTOR_LIMIT:?} in vain for an adaptor with the bed's settings: `kubectl logs` of its pod says why"
        );
        sleep(INTERVAL);
    }
    Ok(())
}

/// Whether a process of the adaptor has all of these lines in its environment.
fn runs_with(lines: &[String]) -> Result<bool> {
    let processes = fs::read_dir("/proc").context("cannot list the node's processes")?;
    let adaptors = processes
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == ADAPTOR));
    Ok(adaptors
        // One that ended meanwhile has none.
        .filter_map(|path| fs::read_to_string(path.join("environ")).ok())
        .any(|environment| {
            let set: Vec<_> = environment.split('\0').collect();
            lines.iter().all(|line| set.contains(&line.as_str()))
        }))
}

/// Whether anybody listens for shims: a socket that an adaptor left as it ended is not among these.
fn serves() -> Result<bool> {
    let sockets = fs::read_to_string("/proc/net/unix").context("cannot read the node's sockets")?;
    Ok(sockets.lines().any(|line| line.ends_with(SOCKET)))
}

/// Installs a new version on a bed that runs; runs in the bed.
pub(super) fn refresh(plan: &Plan, state: &State) -> Result<()> {
    push_images(plan, state)?;
    let settings = settings(plan, state)?;
    install(plan, state, &settings)?;
    let config = state.text("config/kata-config.json");
    kubectl(&["apply", "--filename", &config])?;
    wait(plan, &settings)
}

/// A command of kubectl on what is in that namespace; works in the bed.
pub(crate) fn kubectl(arguments: &[&str]) -> Result<String> {
    let namespace = ["--namespace", NAMESPACE];
    output(Command::new("kubectl").args(namespace).args(arguments))
}

/// Runs this program's `refresh` in the bed.
pub(super) fn refresh_from_outside(enter: &Path, state: &State) -> Result<()> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    run(Command::new(enter)
        .arg(own)
        .args(["testbed-refresh".as_ref(), state.0.as_os_str()]))
}
