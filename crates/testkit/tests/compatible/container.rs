//! Containers as the shims send them: containerd's spec with the shims' changes.

use std::collections::HashMap;

use peerpods_proto::{
    agent::{CreateContainerRequest, Storage},
    oci,
};
use protobuf::MessageField;

use crate::{agent::texts, pod::Pod};

/// In the test bed's registry.
const IMAGE: &str = "10.250.0.1:5000/busybox:1.35";
/// What a container runtime gives a container that asks for nothing, in part.
pub(crate) const CAPABILITIES: [&str; 3] = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The pod's own container: a container like others, whose image is the literal "pause".
pub(crate) fn pause(pod: &Pod, exec_id: &str) -> CreateContainerRequest {
    let annotations = annotations(pod, "sandbox", "pod_sandbox", "pause:3.10");
    let mut request = request(pod, &pod.id, exec_id, &["/pause"], annotations);
    request.storages = vec![pull("pause", &request)];
    request
}

/// A container that runs a shell script, with a mount for each of `files`: where it is, and what was copied there.
pub(crate) fn workload(
    pod: &Pod,
    id: &str,
    exec_id: &str,
    script: &str,
    files: &[(&str, &str)],
) -> CreateContainerRequest {
    let annotations = annotations(pod, "container", "pod_container", IMAGE);
    let mut request = request(pod, id, exec_id, &["sh", "-c", script], annotations);
    request.storages = vec![pull(IMAGE, &request)];
    let spec = request.OCI.mut_or_insert_default();
    for (destination, source) in files {
        let options = ["rbind", "rprivate", "rw"];
        spec.Mounts.push(mount(destination, "bind", source, &options));
    }
    request
}

/// Adds an emptyDir as the Go shim sends it: the mount's type stays `local`, and its options alone say that it is a bind.
pub(crate) fn add_empty_dir(pod: &Pod, request: &mut CreateContainerRequest, destination: &str) {
    let folder = format!(
        "/run/kata-containers/shared/containers/{}/rootfs/local/scratch",
        pod.id
    );
    request.storages.push(Storage {
        driver: "local".to_owned(),
        source: "local".to_owned(),
        fstype: "local".to_owned(),
        options: texts(&["mode=0777"]),
        mount_point: folder.clone(),
        ..Default::default()
    });
    let options = ["rbind", "rprivate", "rw"];
    let spec = request.OCI.mut_or_insert_default();
    spec.Mounts.push(mount(destination, "local", &folder, &options));
}

/// A process as the Go shim's exec carries it: no capabilities, no limits.
pub(crate) fn exec(script: &str, terminal: bool) -> oci::Process {
    oci::Process {
        Terminal: terminal,
        User: MessageField::some(oci::User::default()),
        Args: texts(&["sh", "-c", script]),
        Env: texts(&["PATH=/bin:/usr/bin"]),
        Cwd: "/".to_owned(),
        ..Default::default()
    }
}

fn request(
    pod: &Pod,
    id: &str,
    exec_id: &str,
    arguments: &[&str],
    annotations: HashMap<String, String>,
) -> CreateContainerRequest {
    let mut process = exec("", false);
    process.Args = texts(arguments);
    let sets = texts(&CAPABILITIES);
    process.Capabilities = MessageField::some(oci::LinuxCapabilities {
        Bounding: sets.clone(),
        Effective: sets.clone(),
        Permitted: sets,
        ..Default::default()
    });
    let spec = oci::Spec {
        Version: "1.1.0".to_owned(),
        Process: MessageField::some(process),
        Root: MessageField::some(oci::Root {
            Path: format!("/run/kata-containers/{id}/rootfs"),
            ..Default::default()
        }),
        Hostname: pod.name.clone(),
        Mounts: mounts(),
        Annotations: annotations,
        Linux: MessageField::some(linux(id)),
        ..Default::default()
    };
    CreateContainerRequest {
        container_id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        OCI: MessageField::some(spec),
        ..Default::default()
    }
}

fn annotations(pod: &Pod, cri_type: &str, kata_type: &str, image: &str) -> HashMap<String, String> {
    let all = [
        ("io.kubernetes.cri.container-type", cri_type),
        ("io.kubernetes.cri.sandbox-id", &pod.id),
        ("io.kubernetes.cri.sandbox-name", &pod.name),
        ("io.kubernetes.cri.sandbox-namespace", "default"),
        ("io.kubernetes.cri.image-name", image),
        (
            "io.kubernetes.container.terminationMessagePath",
            "/dev/termination-log",
        ),
        ("io.kubernetes.container.terminationMessagePolicy", "File"),
        ("io.katacontainers.pkg.oci.container_type", kata_type),
        (
            "io.katacontainers.pkg.oci.bundle_path",
            "/run/containerd/io.containerd.runtime.v2.task/k8s.io/bundle",
        ),
    ];
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn mounts() -> Vec<oci::Mount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
        mount("/dev/shm", "bind", "/run/kata-containers/sandbox/shm", &["rbind"]),
    ]
}

/// What the Go shim leaves of it: no devices, no processor sets, no limit of processes; and no network, pid or cgroup
/// namespace.
fn linux(id: &str) -> oci::Linux {
    let namespace = |kind: &str| oci::LinuxNamespace {
        Type: kind.to_owned(),
        ..Default::default()
    };
    let resources = oci::LinuxResources {
        CPU: MessageField::some(oci::LinuxCPU {
            Shares: 2,
            Period: 100_000,
            ..Default::default()
        }),
        Memory: MessageField::some(oci::LinuxMemory::default()),
        ..Default::default()
    };
    oci::Linux {
        Resources: MessageField::some(resources),
        CgroupsPath: format!("/kubepods/besteffort/pod1/{id}"),
        Namespaces: ["ipc", "uts", "mount"].map(namespace).into(),
        MaskedPaths: texts(&["/proc/kcore", "/proc/keys", "/sys/firmware"]),
        ReadonlyPaths: texts(&["/proc/bus", "/proc/sys"]),
        ..Default::default()
    }
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: destination.to_owned(),
        source: source.to_owned(),
        type_: kind.to_owned(),
        options: texts(options),
        ..Default::default()
    }
}

/// The storage by which a guest is asked to pull the image, with all annotations as its metadata.
fn pull(image: &str, request: &CreateContainerRequest) -> Storage {
    let metadata = serde_json::json!({"metadata": request.OCI.Annotations});
    Storage {
        driver: "image_guest_pull".to_owned(),
        driver_options: vec![format!("image_guest_pull={metadata}")],
        source: image.to_owned(),
        fstype: "overlay".to_owned(),
        mount_point: format!("/run/kata-containers/{}/rootfs", request.container_id),
        ..Default::default()
    }
}
