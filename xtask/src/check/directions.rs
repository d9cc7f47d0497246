//! Dependencies point one way: which crate of ours may use which, and what never comes along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{cargo, output};

/// Which crates of ours a crate may use. A crate that is not listed may not exist: add it here, with
/// the reason in ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("peerpods-aws", &[]),
    ("peerpods-bpf", &[]),
    ("peerpods-error", &[]),
    ("peerpods-log", &["peerpods-error", "peerpods-proto"]),
    ("peerpods-probes", &["peerpods-error"]),
    ("peerpods-resources", &[]),
    ("peerpods-api", &["peerpods-resources"]),
    (
        "peerpods-webhook",
        &[
            "peerpods-api",
            "peerpods-error",
            "peerpods-log",
            "peerpods-probes",
            "peerpods-resources",
        ],
    ),
    ("peerpods-proto", &[]),
    ("peerpods-provider", &["peerpods-error"]),
    (
        "peerpods-provider-aws",
        &["peerpods-aws", "peerpods-error", "peerpods-provider"],
    ),
    ("peerpods-provider-qemu", &["peerpods-error", "peerpods-provider"]),
    (
        "peerpods-provider-namespaces",
        &["peerpods-error", "peerpods-provider"],
    ),
    ("peerpods-tunnel", &["peerpods-bpf", "peerpods-proto"]),
    (
        "peerpods-adaptor",
        &[
            "peerpods-api",
            "peerpods-error",
            "peerpods-log",
            "peerpods-probes",
            "peerpods-proto",
            "peerpods-provider",
            "peerpods-provider-aws",
            "peerpods-provider-namespaces",
            "peerpods-provider-qemu",
            "peerpods-tunnel",
        ],
    ),
    (
        "peerpods-shim",
        &[
            "peerpods-error",
            "peerpods-log",
            "peerpods-proto",
            "peerpods-resources",
            "peerpods-tunnel",
        ],
    ),
    (
        "peerpods-guest",
        &[
            "peerpods-bpf",
            "peerpods-error",
            "peerpods-log",
            "peerpods-proto",
            "peerpods-tunnel",
        ],
    ),
    (
        "peerpods-operator",
        &[
            "peerpods-api",
            "peerpods-error",
            "peerpods-log",
            "peerpods-probes",
            "peerpods-provider",
            "peerpods-provider-aws",
        ],
    ),
    ("peerpods-image", &["peerpods-aws"]),
    (
        "peerpods-cli",
        &[
            "peerpods-api",
            "peerpods-aws",
            "peerpods-image",
            "peerpods-resources",
        ],
    ),
    ("peerpods-testkit", &[]),
    ("xtask", &[]),
];

/// Programs that run once per pod or inside the VM, and what they never link.
const LEAN: [&str; 2] = ["peerpods-guest", "peerpods-shim"];
const NEVER_IN_LEAN: [&str; 4] = ["kube", "k8s-openapi", "aws-config", "aws-sigv4"];

/// Reads the resolved dependencies and compares them with the rules.
pub(crate) fn check() -> Result<()> {
    let text = output(&mut cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--locked",
    ]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let graph = Graph::new(&metadata);
    let allowed: BTreeMap<_, BTreeSet<_>> = ALLOWED
        .iter()
        .map(|(name, uses)| (*name, uses.iter().copied().collect()))
        .collect();
    let mut wrong = Vec::new();
    for member in &graph.members {
        let Some(may_use) = allowed.get(member.as_str()) else {
            wrong.push(format!("{member} has no entry in the table of directions"));
            continue;
        };
        let ours = graph.uses(member).filter(|used| graph.members.contains(*used));
        wrong.extend(
            ours.filter(|used| !may_use.contains(used))
                .map(|used| format!("{member} must not use {used}")),
        );
    }
    for program in LEAN {
        let reached = graph.reached(program);
        wrong.extend(
            NEVER_IN_LEAN
                .iter()
                .filter(|name| reached.contains(**name))
                .map(|name| format!("{program} must not link {name}")),
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Names of packages and what each uses outside of its tests.
struct Graph {
    members: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn new(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let members = list(&metadata["workspace_members"])
            .iter()
            .map(|id| names[&text(id)].clone())
            .collect();
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let normal = list(&node["deps"])
                .into_iter()
                .filter(|dependency| {
                    list(&dependency["dep_kinds"])
                        .iter()
                        .any(|kind| kind["kind"].is_null())
                })
                .map(|dependency| names[&text(&dependency["pkg"])].clone());
            uses.entry(names[&text(&node["id"])].clone())
                .or_default()
                .extend(normal);
        }
        Self { members, uses }
    }

    fn uses(&self, name: &str) -> impl Iterator<Item = &str> {
        self.uses.get(name).into_iter().flatten().map(String::as_str)
    }

    fn reached(&self, start: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut waiting = VecDeque::from([start.to_owned()]);
        while let Some(name) = waiting.pop_front() {
            for used in self.uses(&name) {
                if reached.insert(used.to_owned()) {
                    waiting.push_back(used.to_owned());
                }
            }
        }
        reached
    }
}
