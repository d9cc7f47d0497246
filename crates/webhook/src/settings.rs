//! What an administrator can set: flags, or the environment of the container.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, builder::NonEmptyStringValueParser};
use peerpods_api::{
    admission::{PodAdmission, excluded_namespaces},
    names,
};

/// The admission webhook of peer pods: changes pods of one runtime class as they are created, and no other pod.
///
/// Containers of a peer pod run in a virtual machine beside the node, so the node must not be charged for their CPU and
/// memory. Their resources are emptied, the first container asks for one place for a VM, and what the containers may use
/// is kept in the annotation kata.peerpods.io/resources, by which the VM gets its size and enforces it. A size that the
/// user wrote into io.katacontainers.config.hypervisor.default_vcpus, .default_memory or .default_gpus stays.
///
/// The API server has to be told of it (MutatingWebhookConfiguration); the operator does that. Certificates are read again
/// when their files change.
#[derive(Clone, Debug, Parser)]
#[command(name = "peerpods-webhook", version)]
pub(crate) struct Settings {
    /// The runtimeClassName of peer pods.
    #[arg(
        long,
        env = "TARGET_RUNTIME_CLASS",
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new(),
        help = "The runtimeClassName of peer pods; TARGET_RUNTIMECLASS is accepted too [default: kata-remote]"
    )]
    target_runtime_class: Option<String>,
    /// Today's other spelling.
    #[arg(long, env = "TARGET_RUNTIMECLASS", hide = true, value_parser = NonEmptyStringValueParser::new())]
    target_runtimeclass: Option<String>,
    /// The extended resource of which every peer pod takes one.
    #[arg(
        long,
        env = "POD_VM_EXTENDED_RESOURCE",
        value_name = "NAME",
        default_value = names::VM_RESOURCE,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pod_vm_extended_resource: String,
    /// Namespaces whose pods are left alone, separated by commas; by default kube-system and those of OpenShift itself. A
    /// peer pod made there is counted only if its spec asks for the extended resource.
    #[arg(
        long,
        env = "EXCLUDED_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    excluded_namespaces: Option<Vec<String>>,
    /// Where reviews are answered, over TLS.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:9443")]
    pub(crate) listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are answered, over plain HTTP.
    #[arg(long, env = "HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) health_listen: SocketAddr,
    /// The server's certificate and those that signed it, as PEM.
    #[arg(
        long,
        env = "TLS_CERTIFICATE",
        value_name = "FILE",
        default_value = "/tmp/k8s-webhook-server/serving-certs/tls.crt"
    )]
    pub(crate) tls_certificate: PathBuf,
    /// The certificate's private key, as PEM.
    #[arg(
        long,
        env = "TLS_KEY",
        value_name = "FILE",
        default_value = "/tmp/k8s-webhook-server/serving-certs/tls.key"
    )]
    pub(crate) tls_key: PathBuf,
}

impl Settings {
    /// Which pods are changed, and what they get.
    pub(crate) fn admission(&self) -> PodAdmission {
        let classes = [&self.target_runtime_class, &self.target_runtimeclass];
        let class = classes.into_iter().flatten().next();
        let excluded = self.excluded_namespaces.clone();
        PodAdmission {
            runtime_class: class.map_or(names::RUNTIME_CLASS, String::as_str).to_owned(),
            vm_resource: self.pod_vm_extended_resource.clone(),
            excluded_namespaces: excluded.map_or_else(excluded_namespaces, |names| {
                names.into_iter().filter(|name| !name.is_empty()).collect()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(arguments: &[&str]) -> PodAdmission {
        let program = ["peerpods-webhook"].iter();
        Settings::try_parse_from(program.chain(arguments))
            .unwrap()
            .admission()
    }

    #[test]
    fn defaults_are_those_of_the_cluster() {
        assert_eq!(admission(&[]), PodAdmission::default());
    }

    #[test]
    fn both_spellings_name_the_class_and_the_documented_one_wins() {
        assert_eq!(admission(&["--target-runtimeclass", "b"]).runtime_class, "b");
        let both = ["--target-runtimeclass", "b", "--target-runtime-class", "a"];
        assert_eq!(admission(&both).runtime_class, "a");
    }

    #[test]
    fn no_namespace_is_excluded_by_an_empty_list() {
        assert!(
            admission(&["--excluded-namespaces", ""])
                .excluded_namespaces
                .is_empty()
        );
        assert_eq!(
            admission(&["--excluded-namespaces", "a,b"])
                .excluded_namespaces
                .len(),
            2
        );
        assert!(Settings::try_parse_from(["peerpods-webhook", "--target-runtime-class", ""]).is_err());
    }
}
