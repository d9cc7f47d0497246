//! What an administrator sees of a cluster, on a real API server: the objects are there, and nothing that makes them.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use flate2::read::GzDecoder;
use peerpods_api::crd;
use peerpods_testkit::{ApiServer, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "openshift-sandboxed-containers-operator";
const SECRET: &str = "correct-horse-battery";

/// A cluster with one peer pod, `shop/web` on node `worker-1`.
struct Cluster {
    server: &'static ApiServer,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    fn new() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let server = ApiServer::shared()?;
        let cluster = Self {
            server,
            _alone: ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        };
        for definition in crd::all() {
            cluster.apply(&serde_json::to_value(definition).unwrap());
        }
        wait_for("all kinds are served", LIMIT, || {
            let get = server.kubectl(&["get", "kataconfigs,peerpodconfigs,peerpods", "-A"]);
            if get.code == 0 { Ok(()) } else { Err(get.stderr) }
        });
        for namespace in ["shop", NAMESPACE] {
            cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
        cluster.create_node();
        cluster.create_runtime_class();
        cluster.create_peer_pod();
        Some(cluster)
    }

    fn apply(&self, object: &Value) {
        self.server.apply(object).text();
    }

    fn set_status(&self, kind: &str, name: &str, namespace: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let arguments = [
            "patch",
            kind,
            name,
            "-n",
            namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.server.kubectl(&arguments).text();
    }

    fn create_node(&self) {
        self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}}));
        self.set_status(
            "node",
            "worker-1",
            "default",
            &json!({"capacity": {"kata.peerpods.io/vm": "10"}}),
        );
    }

    fn create_runtime_class(&self) {
        self.apply(&json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata-remote"}, "handler": "kata-remote",
        }));
    }

    fn create_peer_pod(&self) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "annotations": {
                "io.katacontainers.config.hypervisor.default_vcpus": "2",
                "io.katacontainers.config.hypervisor.default_memory": "512",
            }},
            "spec": {"nodeName": "worker-1", "runtimeClassName": "kata-remote", "containers": [
                {"name": "a", "image": "nginx", "args": [format!("--password={SECRET}")]},
            ]},
        }));
        let pod: Value = serde_json::from_str(
            &self
                .server
                .kubectl(&["get", "pod", "web", "-n", "shop", "-o", "json"])
                .text(),
        )
        .unwrap();
        self.apply(&json!({
            "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
            "metadata": {"name": "web-resource-0123456789", "namespace": "shop", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod["metadata"]["uid"]},
            ]},
            "spec": {"cloudProvider": "aws", "nodeName": "worker-1", "sandboxID": "sandbox-1"},
        }));
        self.set_status("peerpod", "web-resource-0123456789", "shop", &json!({
            "phase": "Ready", "instanceID": "i-0123", "addresses": ["10.0.0.7"],
            "launchTime": "2038-01-01T00:00:01Z", "bootTime": "2038-01-01T00:00:02Z", "readyTime": "2038-01-01T00:00:09Z",
        }));
    }

    fn peerpodctl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerpodctl"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.server.kubeconfig());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A namespace itself would go only with a controller.
        let all = [
            "delete",
            "pods,peerpods",
            "--all",
            "--force",
            "--grace-period=0",
            "--namespace",
        ];
        for namespace in ["shop", NAMESPACE] {
            self.server.kubectl(&[&all[..], &[namespace]].concat());
        }
    }
}

/// What a command that succeeds prints.
#[track_caller]
fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The last line of a command that fails.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .last()
        .unwrap()
        .to_owned()
}

#[test]
fn list_shows_every_vm_with_its_pod_and_node() {
    let Some(cluster) = Cluster::new() else { return };
    let text = printed(&cluster.peerpodctl(&["list", "--all-namespaces"]));
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|line| {
            line.split("   ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        [
            "NAMESPACE",
            "POD",
            "NODE",
            "PHASE",
            "INSTANCE",
            "ADDRESS",
            "SIZE",
            "AGE"
        ]
    );
    assert_eq!(
        lines[1][..7],
        [
            "shop",
            "web",
            "worker-1",
            "Ready",
            "i-0123",
            "10.0.0.7",
            "2 vCPU, 512 MiB"
        ]
    );

    let elsewhere = printed(&cluster.peerpodctl(&["list"]));
    assert!(
        elsewhere.starts_with("no peer pods in namespace default"),
        "{elsewhere}"
    );

    let json: Value = serde_json::from_str(&printed(
        &cluster.peerpodctl(&["list", "-n", "shop", "-o", "json"]),
    ))
    .unwrap();
    assert_eq!(json[0]["instance"], "i-0123");
    assert_eq!(json[0]["peerPod"], "web-resource-0123456789");
}

#[test]
fn kubectl_finds_the_program_under_its_other_name() {
    let Some(cluster) = Cluster::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-peerpods");
    symlink(env!("CARGO_BIN_EXE_peerpodctl"), &plugin).unwrap();
    let help = printed(&Command::new(&plugin).args(["list", "--help"]).output().unwrap());
    assert!(help.contains("Usage: kubectl peerpods list"), "{help}");
    let script = printed(
        &Command::new(&plugin)
            .args(["completion", "bash"])
            .output()
            .unwrap(),
    );
    assert!(script.contains("-o default kubectl-peerpods"), "{script}");
    let list = Command::new(&plugin)
        .args(["list", "-A"])
        .env("KUBECONFIG", cluster.server.kubeconfig())
        .output();
    assert!(printed(&list.unwrap()).contains("i-0123"));
}

#[test]
fn describe_tells_how_a_start_went_and_what_the_node_has() {
    let Some(cluster) = Cluster::new() else { return };
    let text = printed(&cluster.peerpodctl(&["describe", "web", "--namespace", "shop"]));
    for expected in [
        "shop/web",
        "i-0123 (Ready)",
        "worker-1 (VMs: 1 of 10)",
        "VM asked for",
        "VM answers",
        "pod created",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    let json: Value = serde_json::from_str(&printed(
        &cluster.peerpodctl(&["describe", "web", "-n", "shop", "-o", "json"]),
    ))
    .unwrap();
    let stages = json["stages"].as_array().unwrap();
    let second = |stage: &str| {
        stages.iter().find(|one| one["stage"] == stage).unwrap()["seconds"]
            .as_i64()
            .unwrap()
    };
    assert_eq!(second("VM answers") - second("VM exists"), 7);
}

#[test]
fn describe_says_what_is_no_peer_pod() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": "shop"},
        "spec": {"containers": [{"name": "a", "image": "nginx"}]},
    }));
    let plain = refused(&cluster.peerpodctl(&["describe", "plain", "-n", "shop"]));
    assert_eq!(
        plain,
        "error: pod plain is no peer pod: it has no runtimeClassName kata-remote"
    );
    let none = refused(&cluster.peerpodctl(&["describe", "none", "-n", "shop"]));
    assert!(none.contains("there is no pod none in namespace shop"), "{none}");
}

#[test]
fn top_counts_vms_of_nodes_and_says_what_is_not_measured() {
    let Some(cluster) = Cluster::new() else { return };
    let output = cluster.peerpodctl(&["top", "--all-namespaces"]);
    let lines: Vec<String> = printed(&output)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines[1], "worker-1 10 1 0 0 1 0");
    assert_eq!(lines[4], "shop web worker-1 - - 2 vCPU, 512 MiB");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.starts_with("no figures: cannot read what pods use from the kubelet of node worker-1"),
        "{errors}"
    );
}

#[test]
fn a_cluster_that_is_not_there_or_not_permitted_is_said_with_what_to_do() {
    let Some(cluster) = Cluster::new() else { return };
    let none = refused(&cluster.peerpodctl(&["list", "--kubeconfig", "/does/not/exist"]));
    assert!(none.contains("cannot read /does/not/exist"), "{none}");
    let kubeconfig = fs::read_to_string(cluster.server.kubeconfig()).unwrap();
    let mut nobody: Value = serde_json::from_str(&kubeconfig).unwrap();
    nobody["users"][0]["user"]["as"] = json!("nobody");
    let path = cluster.server.kubeconfig().with_file_name("nobody");
    fs::write(&path, nobody.to_string()).unwrap();
    let forbidden = refused(&cluster.peerpodctl(&["list", "--kubeconfig", path.to_str().unwrap()]));
    assert!(
        forbidden.starts_with("error: cannot list the PeerPods: "),
        "{forbidden}"
    );
    assert!(
        forbidden.contains("ask the cluster's administrator for this right"),
        "{forbidden}"
    );
}

#[test]
fn collect_gathers_everything_but_secrets() {
    let Some(cluster) = Cluster::new() else { return };
    for object in [
        json!({"kind": "Secret", "metadata": {"name": "peer-pods-secret"}, "stringData": {"AWS_SECRET_ACCESS_KEY": SECRET}}),
        json!({"kind": "ConfigMap", "metadata": {"name": "peer-pods-cm"}, "data": {"CLOUD_PROVIDER": "aws", "NOTE": format!("it is {SECRET}")}}),
        json!({"kind": "Pod", "metadata": {"name": "adaptor"}, "spec": {"nodeName": "worker-1", "containers": [{"name": "a", "image": "a"}]}}),
    ] {
        let mut object = object;
        object["apiVersion"] = json!("v1");
        object["metadata"]["namespace"] = json!(NAMESPACE);
        cluster.apply(&object);
    }
    let status = json!({"containerStatuses": [{
        "name": "a", "image": "a", "imageID": "a", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2038-01-01T00:00:00Z"}},
    }]});
    cluster.set_status("pod", "adaptor", NAMESPACE, &status);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("support.tar.gz");
    let said = printed(&cluster.peerpodctl(&["collect", "--file", archive.to_str().unwrap()]));
    assert!(said.contains("support.tar.gz: "), "{said}");

    let files = unpacked(&archive);
    let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
    assert!(!all.contains(SECRET));
    let file = |name: &str| {
        &files
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .unwrap_or_else(|| panic!("no {name}: {all}"))
            .1
    };
    assert!(file("cluster/peerpods.json").contains("i-0123"));
    assert!(file("cluster/nodes.json").contains("kata.peerpods.io/vm"));
    assert!(file("cluster/pods.json").contains("nginx"));
    assert!(file("versions.json").contains("gitVersion"));
    assert!(file("namespace/secrets.json").contains("AWS_SECRET_ACCESS_KEY"));
    assert!(file("namespace/configmaps.json").contains("it is (removed)"));
    // There is no kubelet that could give the log.
    assert!(
        file("missing.txt").contains("logs of container a of pod adaptor"),
        "{}",
        file("missing.txt")
    );

    let again = refused(&cluster.peerpodctl(&["collect", "--file", archive.to_str().unwrap()]));
    assert!(
        again.contains("exists already: name another file with --file"),
        "{again}"
    );
}

fn unpacked(archive: &Path) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(archive).unwrap()));
    let file = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry: tar::Entry<'_, GzDecoder<fs::File>> = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    archive.entries().unwrap().map(file).collect()
}

#[test]
fn ctrl_c_ends_a_collection_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A server that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let server = format!("http://{}", silent.local_addr().unwrap());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [],
        "clusters": [{"name": "c", "cluster": {"server": server}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerpodctl"));
    command
        .args(["collect", "--kubeconfig"])
        .arg(&kubeconfig)
        .current_dir(folder.path());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let _question = silent.accept().unwrap();
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["kubeconfig"]);
}
