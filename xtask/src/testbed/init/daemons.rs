//! The daemons of the node and of the control plane, and what each is started with.

use std::path::PathBuf;

use crate::testbed::{
    layout::{
        CGROUP2, CONTAINERD, EC2, NAMESPACES_SOCKET, NODE, NODE_ADDRESS, NODE_CREDENTIALS, PRIVATE_REGISTRY,
        REGISTRY, State,
    },
    plan::Plan,
};

/// A program that runs as long as the bed does.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// It starts once this file is there.
    pub(super) after: Option<PathBuf>,
}

/// Made by the bring-up once the API server serves.
pub(super) const API_SERVES: &str = "/run/testbed-api-serves";

/// All daemons. None minds that another is away for a while.
pub(super) fn all(plan: &Plan, state: &State) -> Vec<Daemon> {
    let pki = |file: &str| state.text(&format!("pki/{file}"));
    let config = |file: &str| state.text(&format!("config/{file}"));
    let kubernetes = |name: &'static str, arguments: Vec<String>| Daemon {
        name,
        program: plan.programs.join(name),
        arguments,
        environment: Vec::new(),
        after: None,
    };
    let client = |name: &'static str, arguments: Vec<String>| Daemon {
        after: Some(API_SERVES.into()),
        ..kubernetes(name, arguments)
    };
    let kubeconfig = |user: &str| format!("--kubeconfig={}", state.kubeconfig(user).display());
    vec![
        kubernetes("etcd", etcd(state)),
        kubernetes("containerd", vec!["--config".into(), CONTAINERD.into()]),
        kubernetes("kube-apiserver", api_server(&pki)),
        Daemon {
            program: plan.registry.clone(),
            ..kubernetes("registry", vec!["serve".into(), config("registry.yaml")])
        },
        Daemon {
            program: plan.registry.clone(),
            ..kubernetes(
                "private-registry",
                vec!["serve".into(), config("private-registry.yaml")],
            )
        },
        outside(state),
        ec2(plan, state),
        namespaces_adaptor(plan, state),
        client(
            "kube-controller-manager",
            vec![
                kubeconfig("admin"),
                // With the usual limits the first pod waits 6 s for its service account.
                "--kube-api-qps=500".into(),
                "--kube-api-burst=1000".into(),
                "--use-service-account-credentials=false".into(),
                format!("--service-account-private-key-file={}", pki("sa.key")),
                format!("--root-ca-file={}", pki("ca.crt")),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
            ],
        ),
        client(
            "kube-scheduler",
            vec![
                kubeconfig("scheduler"),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
            ],
        ),
        client(
            "kubelet",
            vec![
                format!("--config={}", config("kubelet.yaml")),
                kubeconfig("kubelet"),
                format!("--hostname-override={NODE}"),
                format!("--node-ip={NODE_ADDRESS}"),
            ],
        ),
        client(
            "kube-proxy",
            vec![format!("--config={}", config("kube-proxy.yaml"))],
        ),
        client("coredns", vec!["-conf".into(), config("Corefile")]),
    ]
}

fn etcd(state: &State) -> Vec<String> {
    let (clients, peers) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
    vec![
        format!("--data-dir={}", state.text("etcd")),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // The bed's data does not outlive the bed.
        "--unsafe-no-fsync".into(),
    ]
}

fn api_server(pki: &impl Fn(&str) -> String) -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        "--secure-port=6443".into(),
        format!("--advertise-address={NODE_ADDRESS}"),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            pki("apiserver-kubelet-client.crt")
        ),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
    ]
}

/// A page of the outside world, for pods to fetch.
fn outside(state: &State) -> Daemon {
    let page = state.text("outside");
    let server = [
        "--net=/run/netns/outside",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "80",
        "-h",
        &page,
    ];
    Daemon {
        name: "outside",
        program: "nsenter".into(),
        arguments: server.map(str::to_owned).into(),
        environment: Vec::new(),
        after: None,
    }
}

/// EC2, whose instances are machines on the node's network. Until somebody asks it for something, it costs next to nothing.
fn ec2(plan: &Plan, state: &State) -> Daemon {
    Daemon {
        name: "ec2",
        program: state.file("bin/ec2-emulator"),
        arguments: vec![EC2.to_owned(), state.text("ec2")],
        environment: vec![
            ("PEERPODS_TEST_MOTO", plan.moto.display().to_string()),
            ("PEERPODS_TEST_FIRMWARE", plan.firmware.display().to_string()),
        ],
        after: None,
    }
}

/// The adaptor of runtime class kata-namespaces, which is of the bed alone: nobody installs it in a cluster. Its tunnels have a
/// port of their own, because both adaptors give the same numbers to them.
fn namespaces_adaptor(plan: &Plan, state: &State) -> Daemon {
    let insecure = format!("{REGISTRY},{PRIVATE_REGISTRY}");
    let kubeconfig = state.kubeconfig("adaptor").display().to_string();
    let cgroup = format!("{CGROUP2}/{}", plan.cgroup);
    let guest = state.text("bin/peerpods-guest");
    let launcher = state.text("bin/peerpods-namespaces-launcher");
    let settings = [
        ("NODE_NAME", NODE),
        ("CLUSTER_ID", "testbed"),
        ("INSECURE_REGISTRIES", &insecure),
        ("KUBECONFIG", &kubeconfig),
        ("AUTH_JSON_FILE", NODE_CREDENTIALS),
        ("CLOUD_PROVIDER", "namespaces"),
        ("REMOTE_HYPERVISOR_ENDPOINT", NAMESPACES_SOCKET),
        ("PODS_DIR", "/run/peerpod-namespaces/pods"),
        ("JOURNAL_DIR", "/var/lib/cloud-api-adaptor/namespaces"),
        ("VXLAN_PORT", "4790"),
        ("NAMESPACES_STATE", "/run/peerpod-namespaces/instances"),
        ("NAMESPACES_BRIDGE", "knode0"),
        ("NAMESPACES_ADDRESS_POOL", "10.250.0.201-10.250.0.240"),
        ("NAMESPACES_GATEWAY", NODE_ADDRESS),
        ("NAMESPACES_PREFIX_LENGTH", "24"),
        ("NAMESPACES_MTU", "9001"),
        ("HEALTH_ADDRESS", "127.0.0.1:8001"),
        ("NAMESPACES_CGROUP", &cgroup),
        ("NAMESPACES_GUEST", &guest),
        ("NAMESPACES_LAUNCHER", &launcher),
    ];
    Daemon {
        name: "cloud-api-adaptor-namespaces",
        program: state.file("bin/cloud-api-adaptor"),
        arguments: Vec::new(),
        environment: settings.map(|(name, value)| (name, value.to_owned())).into(),
        after: None,
    }
}
