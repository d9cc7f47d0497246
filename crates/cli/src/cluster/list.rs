//! `peerpodctl list`.

use anyhow::Result;
use clap::Args;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{
    connection::{Cluster, ClusterArguments},
    machine::{Machine, machines},
    table::{age, cell, table},
};
use crate::output::{Format, Report, print};

/// Which peer pods, as with kubectl.
#[derive(Args)]
pub(super) struct Scope {
    /// The namespace; by default that of the context.
    #[arg(long, short, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl Scope {
    /// The cluster, and the namespace there, or none for all.
    pub(super) async fn connect(self) -> Result<(Cluster, Option<String>)> {
        let cluster = self.cluster.connect().await?;
        let one = || self.namespace.unwrap_or_else(|| cluster.namespace.clone());
        let namespace = (!self.all_namespaces).then(one);
        Ok((cluster, namespace))
    }
}

const HELP: &str = "\
The size is the provider's name for it where there is one, and otherwise what the pod asks for.

Examples:
  kubectl peerpods list --all-namespaces
  kubectl peerpods list --output json | jq -r '.[] | select(.phase != \"Ready\") | .pod'";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    scope: Scope,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Machines {
    machines: Vec<Machine>,
    #[serde(skip)]
    namespace: Option<String>,
}

impl Report for Machines {
    fn text(&self) -> String {
        if self.machines.is_empty() {
            return match &self.namespace {
                Some(namespace) => {
                    format!("no peer pods in namespace {namespace}; --all-namespaces looks everywhere")
                }
                None => "no peer pods".to_owned(),
            };
        }
        let now = Timestamp::now();
        let heads = [
            "NAMESPACE",
            "POD",
            "NODE",
            "PHASE",
            "INSTANCE",
            "ADDRESS",
            "SIZE",
            "AGE",
        ];
        let row = |one: &Machine| {
            [
                one.namespace.clone(),
                one.pod.clone(),
                cell(one.node.as_ref()),
                cell(one.phase.as_ref()),
                cell(one.instance.as_ref()),
                cell(one.addresses.first()),
                cell(one.size.as_ref()),
                age(one.created, now),
            ]
        };
        table(heads, self.machines.iter().map(row))
    }
}

pub(crate) async fn run(arguments: Arguments, format: Format) -> Result<()> {
    let (cluster, namespace) = arguments.scope.connect().await?;
    let objects = cluster.peer_pods(namespace.as_deref()).await?;
    let machines = machines(&cluster, &objects).await?;
    print(format, &Machines { machines, namespace })
}
